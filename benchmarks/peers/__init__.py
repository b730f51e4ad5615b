"""Plain servers of the same genre model, to measure Bandstand against: they use none of it."""
