"""Exports checkpoints into the model repository: one module for each architecture."""
