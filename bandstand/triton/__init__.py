"""Triton: the models' configs, the server's environment and process, and the audio models."""
