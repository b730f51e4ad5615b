"""Waveforms, resampling and windows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import soxr
from numpy.typing import NDArray

from bandstand.errors import AudioTooShortError
from bandstand.models.card import Window

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Waveform:
    """Mono audio.

    Attributes:
        samples: shape (n,), float32, C-contiguous, finite, nominally in [-1, 1].
        sample_rate: Hz.
        sha256: hex digest of the encoded content it was decoded from.
        truncated: the content ended, or broke, before its own header said it would.
    """

    samples: FloatArray
    sample_rate: int
    sha256: str
    truncated: bool = False

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True)
class Windows:
    """A recording cut for a model.

    Attributes:
        batch: shape (n, length), float32; what lies past the recording's end is zero.
        coverage: shape (n,), float32; the share of each window that is recording, in (0, 1].
    """

    batch: FloatArray
    coverage: FloatArray


def resample(waveform: Waveform, sample_rate: int) -> Waveform:
    """Bring a waveform to another rate (Hz); at its own rate it is returned as it is.

    soxr at quality HQ and a length of ceil(n * ratio), as `librosa.resample` does by default:
    what the models heard when they were trained.
    """
    if sample_rate == waveform.sample_rate:
        return waveform
    samples = soxr.resample(waveform.samples, waveform.sample_rate, sample_rate, quality="HQ")
    # The product of floats, not of integers: librosa's rounding, so that lengths are the same.
    length = math.ceil(len(waveform.samples) * (sample_rate / waveform.sample_rate))
    if len(samples) != length:
        samples = np.pad(samples[:length], (0, max(0, length - len(samples))))
    return replace(
        waveform,
        samples=np.ascontiguousarray(samples, dtype=np.float32),
        sample_rate=sample_rate,
    )


def cut_windows(waveform: Waveform, window: Window) -> Windows:
    """Cut a waveform into windows of a model's length.

    Windows start every `hop_seconds` until one reaches the end; that last one is padded with
    zeros. A tail that the window before already covers gets none of its own.

    Raises:
        AudioTooShortError: shorter than `minimum_seconds`, or without any sample.
        ValueError: the waveform has another rate than the window; resample it first.
    """
    if waveform.sample_rate != window.sample_rate:
        raise ValueError(f"{waveform.sample_rate} Hz for a window of {window.sample_rate} Hz")
    total, length, hop = len(waveform.samples), window.samples, window.hop_samples
    if total == 0 or total < round(window.minimum_seconds * window.sample_rate):
        raise AudioTooShortError(
            f"the audio is {waveform.duration_seconds:.2f} s long; "
            f"it must be at least {window.minimum_seconds:g} s"
        )
    until_covered = 1 + max(0, math.ceil((total - length) / hop))
    # With a hop above the length, the end can lie in the gap before a window's start.
    count = min(until_covered, math.ceil(total / hop))
    batch = np.zeros((count, length), np.float32)
    coverage = np.empty(count, np.float32)
    for index in range(count):
        piece = waveform.samples[index * hop : index * hop + length]
        batch[index, : len(piece)] = piece
        coverage[index] = len(piece) / length
    return Windows(batch=batch, coverage=coverage)
