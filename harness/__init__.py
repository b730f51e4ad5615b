"""Shared code of tests and benchmarks: servers, checkpoints, recordings. It is not installed."""

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
