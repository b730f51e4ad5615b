"""Features of single frames: loudness, zero crossings, and the shape of the spectrum.

Definitions and edge handling are those of `librosa.feature` 0.11 with its defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandstand.frontends.stft import FRAMES_PER_BLOCK, frame_count

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

_ROLLOFF_SHARE = 0.85
"""Share of a frame's summed magnitude that lies at or below its rolloff frequency."""
_ZERO_BAND = 1e-10
"""Samples no further from zero than this count as zero, and zero as positive."""


@dataclass(frozen=True, slots=True)
class SpectralShape:
    """Where in the spectrum the magnitude of each frame lies; each `(frames,)`, in Hz."""

    centroid: DoubleArray
    bandwidth: DoubleArray
    rolloff: DoubleArray


def spectral_shape(magnitude: FloatArray, *, sample_rate: int) -> SpectralShape:
    """Return centroid, bandwidth (standard deviation) and 85 % rolloff of `(frames, bins)`.

    A silent frame has 0 Hz in all three.
    """
    frames, bins = magnitude.shape
    shape = SpectralShape(np.empty(frames), np.empty(frames), np.empty(frames))
    bin_hz = sample_rate / (2 * (bins - 1))
    frequencies = np.arange(bins, dtype=np.float32) * np.float32(bin_hz)
    for start in range(0, frames, FRAMES_PER_BLOCK):
        rows = slice(start, start + FRAMES_PER_BLOCK)
        block = magnitude[rows]
        cumulated = np.cumsum(block, axis=1)
        threshold = np.float32(_ROLLOFF_SHARE) * cumulated[:, -1:]
        shape.rolloff[rows] = bin_hz * np.count_nonzero(cumulated < threshold, axis=1)

        total = block.sum(axis=1)
        total[total < np.finfo(np.float32).tiny] = 1.0
        centroid = np.einsum("tf,f->t", block, frequencies) / total
        # Deviations from the frame's own centroid: the difference of raw moments would lose a
        # narrow band to cancellation in float32.
        deviation = frequencies - centroid[:, None]
        deviation *= deviation
        deviation *= block
        shape.centroid[rows] = centroid
        shape.bandwidth[rows] = np.sqrt(deviation.sum(axis=1) / total)
    return shape


def root_mean_square(samples: FloatArray, *, frame: int, hop: int) -> FloatArray:
    """Return the loudness of every centred frame, `(frames,)`; the ends are padded with zeros."""
    squares = np.square(np.pad(samples, frame // 2))
    power = _frame_sums(squares, len(samples), frame=frame, hop=hop) / np.float32(frame)
    return np.asarray(np.sqrt(power))


def zero_crossing_rate(samples: FloatArray, *, frame: int, hop: int) -> DoubleArray:
    """Return sign changes a sample of every centred frame, `(frames,)`; the ends are held."""
    negative = np.pad(samples, frame // 2, mode="edge") < -_ZERO_BAND
    crossing = np.zeros(len(negative), dtype=np.float32)
    crossing[1:] = negative[1:] != negative[:-1]
    counts = _frame_sums(crossing, len(samples), frame=frame, hop=hop)
    # What lies between a frame and the sample before it is not a crossing of that frame.
    counts -= crossing[: len(counts) * hop : hop]
    return counts.astype(np.float64) / frame


def _frame_sums(padded: FloatArray, samples: int, *, frame: int, hop: int) -> FloatArray:
    """Sum every frame of a padded signal; a hop is summed once for all frames that hold it."""
    frames, hops_per_frame = frame_count(samples, hop), frame // hop
    hops = padded[: (frames + hops_per_frame - 1) * hop].reshape(-1, hop).sum(axis=1)
    return np.asarray(sum(hops[k : k + frames] for k in range(hops_per_frame)))
