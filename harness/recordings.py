"""Recordings made for tests: encoded bytes of tones and noise."""

from __future__ import annotations

import io

import numpy as np
import soundfile


def tone(seconds: float, sample_rate: int = 22_050, channels: int = 1, hz: float = 440.0) -> bytes:
    """Return a WAV of a soft tone with a pulse on every half second."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    envelope = np.exp(-6.0 * (t % 0.5))
    mono = 0.4 * envelope * np.sin(2 * np.pi * hz * t)
    return wav(np.repeat(mono[:, None], channels, axis=1), sample_rate)


def wav(samples: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> bytes:
    """Encode samples (n, channels) as WAV."""
    content = io.BytesIO()
    soundfile.write(content, samples, sample_rate, format="WAV", subtype=subtype)
    return content.getvalue()


def flac(samples: np.ndarray, sample_rate: int) -> bytes:
    """Encode samples (n, channels) as FLAC."""
    content = io.BytesIO()
    soundfile.write(content, samples, sample_rate, format="FLAC")
    return content.getvalue()


def long_silence(hours: float) -> bytes:
    """Encode hours of silence as FLAC: half a megabyte for ten."""
    content = io.BytesIO()
    with soundfile.SoundFile(content, "w", 4_000, 1, subtype="PCM_16", format="FLAC") as file:
        for _ in range(round(10 * hours)):
            file.write(np.zeros(4_000 * 360, np.int16))
    return content.getvalue()
