"""Triton: what it is told of the models, its own environment, its process, and audio models."""
