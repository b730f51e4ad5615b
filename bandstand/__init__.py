"""Bandstand serves music-understanding models; this package imports no serving framework."""

__version__ = "0.1.0"
