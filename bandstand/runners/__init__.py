"""Runners map named arrays to named arrays; nothing above them knows which runtime does it."""
