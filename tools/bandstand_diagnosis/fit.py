"""Fit of a spectrogram to the features, with a scale and an offset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandstand.frontends.mel import DoubleArray

_CLIPPED_SHARE = 1e-3
_SAME_VALUE = 1e-6
_STANDARDISED_WITHIN = 0.02


@dataclass(frozen=True, slots=True)
class Limits:
    """Values at which features were clipped; infinite if they were not."""

    low: float
    high: float

    @classmethod
    def of(cls, features: DoubleArray) -> Limits:
        """Return as limits the extremes that many cells share."""
        low, high = float(features.min()), float(features.max())
        near = _SAME_VALUE * (high - low)
        return cls(
            low if np.mean(features <= low + near) > _CLIPPED_SHARE else -np.inf,
            high if np.mean(features >= high - near) > _CLIPPED_SHARE else np.inf,
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """Features as `slope * model + offset`.

    Attributes:
        slope: in the features' unit by the model's; of features standardised a band, 1.
        offset: of all bands; of cepstra, of all coefficients but the first.
        first_offset: of the first coefficient; otherwise as `offset`.
        residual: root mean square of the difference, divided by the features' standard deviation.
    """

    slope: float
    offset: float
    first_offset: float
    residual: float


NO_FIT = Fit(0.0, 0.0, 0.0, 1.0)


class Target:
    """Features, or some frames of them, to be explained.

    Args:
        features: `(frames, bands)`.
        limits: of the whole features. Cells at a limit do not tell slope and offset, and what the
            model has beyond it counts as the limit.
        cepstral: a constant in the log spectrum shows in the first coefficient alone, so that it
            has an offset of its own.
        per_band: each band was standardised, which leaves no slope and offset to find.
    """

    def __init__(
        self, features: DoubleArray, limits: Limits, *, cepstral: bool, per_band: bool
    ) -> None:
        self.per_band = per_band
        self.values = standardised(features) if per_band else features
        self._limits = Limits(-np.inf, np.inf) if per_band else limits
        bands = features.shape[1]
        self._groups = [slice(0, 1), slice(1, bands)] if cepstral else [slice(0, bands)]
        self._inside = [
            (self.values[:, group] > self._limits.low) & (self.values[:, group] < self._limits.high)
            for group in self._groups
        ]
        self._parts = [
            self.values[:, group][inside]
            for group, inside in zip(self._groups, self._inside, strict=True)
        ]
        self._spread = float(self.values.std())

    def fit(self, model: NDArray[Any]) -> Fit:
        """Fit slope and offset by least squares; a slope of 0 or less is no fit."""
        if self.per_band:
            fit = Fit(1.0, 0.0, 0.0, 0.0)
            return self._with_residual(fit, standardised(model))
        products = squares = 0.0
        means = []
        for group, inside, part in zip(self._groups, self._inside, self._parts, strict=True):
            x = model[:, group][inside]
            if not x.size:
                return NO_FIT
            means.append((float(part.mean()), float(x.mean())))
            centred = x - means[-1][1]
            products += float(centred @ part)
            squares += float(centred @ centred)
        if products <= 0 or squares <= 0:
            return NO_FIT
        slope = products / squares
        offsets = [mean - slope * of_model for mean, of_model in means]
        return self._with_residual(Fit(slope, offsets[-1], offsets[0], 0.0), model)

    def explained(self, fit: Fit, model: NDArray[Any]) -> DoubleArray:
        """Return the features that a fit predicts."""
        if self.per_band:
            return standardised(model)
        explained = fit.slope * np.asarray(model, dtype=np.float64)
        explained[:, :1] += fit.first_offset
        explained[:, 1:] += fit.offset
        return np.clip(explained, self._limits.low, self._limits.high, out=explained)

    def _with_residual(self, fit: Fit, model: NDArray[Any]) -> Fit:
        left = self.values - self.explained(fit, model)
        residual = float(np.sqrt(np.mean(np.square(left)))) / self._spread
        return Fit(fit.slope, fit.offset, fit.first_offset, residual)


def is_standardised_per_band(features: DoubleArray) -> bool:
    """Whether every band, `(frames, bands)`, has mean 0 and standard deviation 1."""
    centred = np.abs(features.mean(axis=0)).max() < _STANDARDISED_WITHIN
    return bool(centred and np.abs(features.std(axis=0) - 1.0).max() < _STANDARDISED_WITHIN)


def standardised(spectrogram: NDArray[Any]) -> DoubleArray:
    """Scale every band to mean 0 and standard deviation 1; a constant band becomes 0."""
    centred = np.asarray(spectrogram - spectrogram.mean(axis=0), dtype=np.float64)
    spread = centred.std(axis=0)
    np.divide(centred, spread, out=centred, where=spread > 0)
    return centred
