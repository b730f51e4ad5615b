"""What is known of every model: parity, speed, answers; and the page that says so."""
