"""Recordings to send: cut from a real one, as WAV files."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.audio.waveform import resample
from bandstand.runners.base import FloatArray
from bandstand.settings import get_settings
from harness.recordings import wav

SAMPLE_RATE = 22_050
"""That of the features: what is measured is not the resampler."""

_RIFF_HEADER = 8


def real_clip(seconds: float) -> FloatArray:
    """Return the first `seconds` of the first real recording that is long enough, `(n,)`, mono.

    Raises:
        FileNotFoundError: there is none; `BANDSTAND_DATA_DIR` names the data folder.
    """
    settings = get_settings()
    directory = settings.data_dir / "audio"
    wanted = round(seconds * SAMPLE_RATE)
    for path in sorted(directory.glob("*.ogg")):
        decoded = decode(path.read_bytes(), DecodeLimits.from_settings(settings))
        samples = resample(decoded, SAMPLE_RATE).samples
        if len(samples) >= wanted:
            return samples[:wanted]
    raise FileNotFoundError(f"no recording of {seconds:g} s in {directory} (BANDSTAND_DATA_DIR)")


def as_wav(samples: FloatArray) -> bytes:
    """Return a WAV file, mono, 16 bits."""
    return wav(samples[:, None], SAMPLE_RATE)


def padded(content: bytes, size: int) -> bytes:
    """Return a WAV file with the same sound and a JUNK chunk behind it, `size` bytes in all.

    Such a chunk is for readers to skip (IBM & Microsoft, Multimedia Programming Interface, 1991).
    """
    junk = size - len(content) - _RIFF_HEADER
    grown = content + struct.pack("<4sI", b"JUNK", junk) + bytes(junk)
    return grown[:4] + struct.pack("<I", size - _RIFF_HEADER) + grown[_RIFF_HEADER:]


def short_clips(count: int, shortest: float, longest: float) -> Iterator[bytes]:
    """Yield WAV files of `shortest` to `longest` seconds, each cut from another place.

    Seeded: the same files every time.
    """
    source = real_clip(30.0)
    random = np.random.default_rng(0)
    last_start = len(source) - round(longest * SAMPLE_RATE)
    for start in random.choice(last_start, count, replace=False):
        length = round(random.uniform(shortest, longest) * SAMPLE_RATE)
        yield as_wav(source[start : start + length])
