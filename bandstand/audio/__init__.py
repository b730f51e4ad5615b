"""Fetches, decodes and resamples recordings, and cuts windows."""
