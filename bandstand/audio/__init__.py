"""From bytes (or a URL) to waveforms and windows."""
