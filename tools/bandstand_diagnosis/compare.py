"""Statistics and similarity of two spectrograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from bandstand.frontends.mel import DoubleArray


@dataclass(frozen=True, slots=True)
class SpectrogramStatistics:
    """Statistics of a spectrogram.

    Attributes:
        frames: their number.
        bands: their number (of MFCCs: coefficients).
        minimum: smallest value.
        maximum: largest value.
        mean: of all values.
        std: their standard deviation.
        profile: mean of every band over time.
    """

    frames: int
    bands: int
    minimum: float
    maximum: float
    mean: float
    std: float
    profile: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Similarity of two spectrograms.

    Attributes:
        residual: root mean square of the difference, divided by the standard deviation of the
            first; None if the shapes differ.
        profile_correlation: Pearson's, of the band profiles.
        frame_correlation: Pearson's, after each band's mean is subtracted: it compares the changes
            over time, which are similar only for the same recording. The profiles of any two
            recordings are similar, because all music has less energy at high frequencies.
    """

    residual: float | None
    profile_correlation: float
    frame_correlation: float


def statistics_of(spectrogram: NDArray[Any]) -> SpectrogramStatistics:
    """Return the statistics of a spectrogram, `(frames, bands)`."""
    return SpectrogramStatistics(
        frames=spectrogram.shape[0],
        bands=spectrogram.shape[1],
        minimum=float(spectrogram.min()),
        maximum=float(spectrogram.max()),
        mean=float(spectrogram.mean()),
        std=float(spectrogram.std()),
        profile=tuple(spectrogram.mean(axis=0).tolist()),
    )


def likeness(reference: NDArray[Any], other: NDArray[Any]) -> Likeness:
    """Compare spectrograms, `(frames, bands)`; a second one of another shape is interpolated."""
    residual = None
    if other.shape == reference.shape:
        residual = float(np.sqrt(np.mean(np.square(reference - other))) / reference.std())
    aligned = on_grid(other, (reference.shape[0], reference.shape[1]))
    return Likeness(
        residual=residual,
        profile_correlation=correlation(reference.mean(axis=0), aligned.mean(axis=0)),
        frame_correlation=movement_correlation(reference, aligned),
    )


def movement_correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Correlate two spectrograms of one shape, after each band's mean is subtracted."""
    return correlation(first - first.mean(axis=0), second - second.mean(axis=0))


def correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return Pearson's correlation of all values; 0 if one side is constant."""
    x, y = first.ravel() - first.mean(), second.ravel() - second.mean()
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / scale if scale > 0 else 0.0


def on_grid(spectrogram: NDArray[Any], shape: tuple[int, int]) -> DoubleArray:
    """Stretch a spectrogram linearly over another number of frames and bands."""
    stretched = np.asarray(spectrogram, dtype=np.float64)
    for axis, length in enumerate(shape):
        if stretched.shape[axis] != length:
            positions = np.linspace(0.0, 1.0, stretched.shape[axis])
            line = make_interp_spline(positions, stretched, k=1, axis=axis)
            stretched = line(np.linspace(0.0, 1.0, length))
    return stretched
