"""Waveforms and resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import soxr
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Waveform:
    """Decoded audio.

    Attributes:
        samples: shape (n,) for mono, (channels, n) for more; float32, C-contiguous, finite,
            nominally in [-1, 1].
        sample_rate: Hz.
        sha256: hex digest of the encoded content.
        truncated: the content is damaged, or shorter than its header states.
    """

    samples: FloatArray
    sample_rate: int
    sha256: str
    truncated: bool = False

    @property
    def channels(self) -> int:
        """The number of channels."""
        return 1 if self.samples.ndim == 1 else len(self.samples)

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return float(self.samples.shape[-1] / self.sample_rate)


def resample(waveform: Waveform, sample_rate: int) -> Waveform:
    """Return a waveform at another rate (Hz); at its own rate it is returned unchanged.

    Uses soxr at quality HQ and a length of ceil(n * ratio), as `librosa.resample` does by default:
    the models were trained with it. Each channel is resampled on its own.
    """
    if sample_rate == waveform.sample_rate:
        return waveform
    samples = waveform.samples
    if samples.ndim == 1:
        resampled = _resample(samples, waveform.sample_rate, sample_rate)
    else:
        resampled = np.stack([_resample(row, waveform.sample_rate, sample_rate) for row in samples])
    return replace(waveform, samples=resampled, sample_rate=sample_rate)


def _resample(samples: FloatArray, source: int, target: int) -> FloatArray:
    """Return one channel, `(n,)`, at another rate."""
    resampled = soxr.resample(samples, source, target, quality="HQ")
    # A product of floats, not of integers, for the same rounding and lengths as librosa.
    length = math.ceil(len(samples) * (target / source))
    if len(resampled) != length:
        resampled = np.pad(resampled[:length], (0, max(0, length - len(resampled))))
    return np.ascontiguousarray(resampled, dtype=np.float32)
