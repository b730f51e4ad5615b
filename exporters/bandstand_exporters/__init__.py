"""Checkpoint to model repository: one file an architecture."""
