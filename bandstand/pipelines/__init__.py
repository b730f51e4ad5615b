"""Pipelines: async functions from audio to answers; they import no serving framework."""
