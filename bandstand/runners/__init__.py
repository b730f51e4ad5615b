"""Runners compute named arrays from named arrays, with one interface for all runtimes."""
