"""A generated recording, for warm-up and readiness checks."""

from __future__ import annotations

import io
import wave

import numpy as np

_RATE = 22_050


def probe_recording(seconds: float = 1.0) -> bytes:
    """Return `seconds` of a 440 Hz tone as a WAV file."""
    tone = 0.1 * np.sin(2 * np.pi * 440.0 * np.arange(round(seconds * _RATE)) / _RATE)
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes((tone * 32767).astype("<i2").tobytes())
    return content.getvalue()
