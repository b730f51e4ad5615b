"""Benchmarks: each writes a table with time, accuracy, hardware and versions side by side."""
