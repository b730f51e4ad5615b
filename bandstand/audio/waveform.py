"""Waveforms and resampling."""

from __future__ import annotations

import math
from collections.abc import Callable
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

    See `Resampler`. Each channel is resampled on its own.
    """
    if sample_rate == waveform.sample_rate:
        return waveform
    rows = [
        _resample(row, waveform.sample_rate, sample_rate) for row in np.atleast_2d(waveform.samples)
    ]
    samples = rows[0] if waveform.samples.ndim == 1 else np.stack(rows)
    return replace(waveform, samples=samples, sample_rate=sample_rate)


def _resample(samples: FloatArray, source: int, target: int) -> FloatArray:
    """Return one channel, `(n,)`, at another rate."""
    parts: list[FloatArray] = []
    resampler = Resampler(source, target, parts.append)
    resampler.add(samples)
    resampler.finish()
    return np.concatenate(parts)


class Resampler:
    """Resamples one channel in blocks; the result does not depend on how it is divided.

    Uses soxr at quality HQ and a length of ceil(n * ratio), as `librosa.resample` does by default:
    the models were trained with it.

    Args:
        source: rate of the input, Hz.
        target: rate of the output, Hz; equal rates pass the input on.
        write: called with each block of the output, shape (n,), float32.
    """

    def __init__(self, source: int, target: int, write: Callable[[FloatArray], None]) -> None:
        # A quotient of floats, not of integers, for the same rounding and lengths as librosa.
        self._ratio = target / source
        self._write = write
        self._added = self._written = 0
        self._stream: soxr.ResampleStream | None = None
        if source != target:
            self._stream = soxr.ResampleStream(source, target, 1, dtype="float32", quality="HQ")

    def add(self, samples: FloatArray) -> None:
        """Add a block of the input, shape (n,)."""
        self._added += len(samples)
        if self._stream is None:
            self._write(samples)
        else:
            self._pass_on(self._stream.resample_chunk(samples))

    def finish(self) -> None:
        """Write the end of the output."""
        if self._stream is None:
            return
        length = math.ceil(self._added * self._ratio)
        last = self._stream.resample_chunk(np.empty(0, np.float32), last=True)
        missing = length - self._written
        self._pass_on(np.pad(last[:missing], (0, max(0, missing - len(last)))))

    def _pass_on(self, samples: FloatArray) -> None:
        self._written += len(samples)
        if len(samples):
            self._write(samples)
