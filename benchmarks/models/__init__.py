"""Results of every model: parity, speed, answers; and their page."""
