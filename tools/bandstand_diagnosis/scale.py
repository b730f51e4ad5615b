"""Interpretation of a fit's slope and offset: the kind of logarithm, its unit, and a rescaling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from bandstand.frontends.mel import DoubleArray, FloatArray
from bandstand.frontends.parameters import MfccParameters
from bandstand_diagnosis.fit import Limits
from bandstand_diagnosis.spectra import Parameters, Setting, decibels_per_neper
from bandstand_diagnosis.sweep import Candidate, usual_floor

_DIVISORS = (255.0, 100.0, 80.0, 40.0, 20.0, 10.0)
_MATCHES_WITHIN, _AT_MOST_WITHIN = 1e-3, 0.02
_EXTREME_WITHIN = 1e-4
_ROUND_DB, _ROUND_DB_WITHIN, _ROUND_DECADE_WITHIN = 10.0, 0.02, 0.01


@dataclass(frozen=True, slots=True)
class Rescaling:
    """A change of a front end's values, `values * slope + offset`, with its description."""

    slope: float
    offset: float
    words: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings of the features, in the fields of a card if it has them.

    Attributes:
        setting: with level, reference, floor and range.
        rescaling: None if the values were not rescaled.
        per_band: each band was scaled to mean 0 and standard deviation 1.
    """

    setting: Setting
    rescaling: Rescaling | None
    per_band: bool

    @property
    def outside_the_card(self) -> tuple[str, ...]:
        """Descriptions of settings that a card has no field for."""
        p, words = self.setting.parameters, []
        if self.setting.window_length != p.n_fft:
            words.append(
                f"a window of {self.setting.window_length} samples in a transform of {p.n_fft}; "
                "a card's window is as long as its transform"
            )
        if self.setting.added:
            words.append(
                f"{p.floor:g} added to every value; a card's floor only lifts smaller ones"
            )
        if self.per_band:
            words.append("every band standardised over the clip: (x - mean) / std")
        elif self.rescaling is not None:
            words.append(self.rescaling.words)
        return tuple(words)


@dataclass(frozen=True, slots=True)
class _Base:
    """A unit that a card can have; `shift` is subtracted because of its reference."""

    level: Literal["decibels", "natural_log"]
    reference: Literal["one", "max"]
    unit: float
    shift: float


@dataclass(frozen=True, slots=True)
class _LogarithmFit:
    """The fit over logarithms: `slope * ln(bands) + constant`, then `rest` on all values."""

    slope: float
    constant: float
    rest: float
    within: float
    within_values: float

    def is_base(self, base: _Base, divisor: float = 1.0) -> bool:
        ratio = self.slope * divisor / base.unit
        shift = self.constant * divisor + ratio * base.shift
        values = self.within_values * divisor
        return (
            abs(ratio - 1.0) <= self.within
            and abs(shift) <= values
            and abs(self.rest) * divisor <= values
        )


def settle(
    candidate: Candidate, features: DoubleArray, bands: FloatArray, card: Parameters
) -> Recipe:
    """Determine level, reference, limits and rescaling from a candidate's fit.

    Settings that the features do not determine stay as on the card.

    Args:
        candidate: a setting and its fit.
        features: `(frames, bands)`.
        bands: power or magnitude in the bands of all frames, which the setting gives.
        card: the card's front end.
    """
    setting, fit = candidate.setting, candidate.fit
    if setting.parameters.level == "linear":
        words = None
        if (
            abs(fit.slope - 1) > _MATCHES_WITHIN
            or abs(fit.offset) > _MATCHES_WITHIN * features.std()
        ):
            words = _rescaling(features, fit.slope, fit.offset)
        return Recipe(
            _changed(setting, **_undetermined_settings(setting.parameters, card)),
            words,
            per_band=False,
        )
    if candidate.per_band:
        level = "decibels" if card.level == "linear" else card.level
        kept = _changed(setting, level=level, **_undetermined_settings(setting.parameters, card))
        return Recipe(kept, None, per_band=True)
    base, rescaling = _base_and_rescaling(candidate, features, bands, card)
    settled = _changed(setting, level=base.level, reference=base.reference)
    if not isinstance(setting.parameters, MfccParameters) and not setting.added:
        settled = _with_limits(settled, candidate, features, bands, card)
    return Recipe(settled, rescaling, per_band=False)


def _undetermined_settings(p: Parameters, card: Parameters) -> dict[str, Any]:
    """Return the settings that values without a logarithmic scale do not determine."""
    return {
        "reference": card.reference,
        "floor": card.floor if card.spectrum == p.spectrum else p.floor,
        "dynamic_range_db": card.dynamic_range_db,
    }


def _base_and_rescaling(
    candidate: Candidate, features: DoubleArray, bands: FloatArray, card: Parameters
) -> tuple[_Base, Rescaling | None]:
    p, fit = candidate.setting.parameters, candidate.fit
    decibel = decibels_per_neper(p)
    peak = float(np.log(max(float(bands.max()), p.floor)))
    bases = [
        _Base("decibels", "one", decibel, 0.0),
        _Base("decibels", "max", decibel, decibel * peak),
        _Base("natural_log", "one", 1.0, 0.0),
    ]
    # The card's values come first, so that they are chosen if several fit.
    bases.sort(key=lambda base: (base.level != card.level, base.reference != card.reference))
    within = min(max(_MATCHES_WITHIN, 3 * fit.residual), _AT_MOST_WITHIN)
    cepstral = isinstance(p, MfccParameters)
    # The orthonormal DCT puts a constant into the first coefficient, times the root of the count.
    constant = (fit.first_offset - fit.offset) / np.sqrt(p.n_mels) if cepstral else fit.offset
    rest = fit.offset if cepstral else 0.0
    line = _LogarithmFit(fit.slope, float(constant), rest, within, within * float(features.std()))
    for base in bases:
        if line.is_base(base):
            return base, None
    for divisor in _DIVISORS:
        for base in bases:
            if line.is_base(base, divisor):
                return base, Rescaling(1 / divisor, 0.0, f"values divided by {divisor:g}")
    for base in bases:
        if abs(line.slope / base.unit - 1.0) <= within:
            break
    else:
        base = bases[0]
    slope = line.slope / base.unit
    offset = rest if cepstral else line.constant + slope * base.shift
    return base, _rescaling(features, slope, float(offset), _odd_logarithm(line.slope, decibel))


def _odd_logarithm(slope: float, decibel: float) -> str | None:
    """Return the name of a logarithm that cards do not have: log10, or wrong decibels."""
    odd = {
        1 / np.log(10.0): "plain log10 of the values",
        decibel / 2: "10 log10 of magnitudes, which is half their decibels",
        decibel * 2: "20 log10 of powers, which is twice their decibels",
    }
    for unit, words in odd.items():
        if abs(slope / unit - 1.0) <= _MATCHES_WITHIN:
            return words
    return None


def _rescaling(
    features: DoubleArray, slope: float, offset: float, words: str | None = None
) -> Rescaling:
    """Describe a rescaling by its resulting values."""
    low, high = float(features.min()), float(features.max())
    mean, std = float(features.mean()), float(features.std())
    if words is None:
        for bottom, top in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
            near = _EXTREME_WITHIN * (top - bottom)
            if abs(low - bottom) <= near and abs(high - top) <= near:
                words = f"the clip's minimum and maximum brought to {bottom:g} and {top:g}"
        if abs(mean) <= _MATCHES_WITHIN and abs(std - 1.0) <= _MATCHES_WITHIN:
            words = "the clip standardised: (x - mean) / std"
    sign = "-" if offset < 0 else "+"
    formula = f"values * {slope:.6g} {sign} {abs(offset):.6g}"
    return Rescaling(slope, offset, f"{words} ({formula})" if words else formula)


def _with_limits(
    setting: Setting,
    candidate: Candidate,
    features: DoubleArray,
    bands: FloatArray,
    card: Parameters,
) -> Setting:
    """Distinguish a floor from a dynamic range: the rounder number is chosen."""
    p, fit = setting.parameters, candidate.fit
    decibel = decibels_per_neper(p)
    low = Limits.of(features).low
    if not np.isfinite(low):
        lowest = float(bands.min())
        reach = decibel * float(np.log(max(float(bands.max()), 1e-30) / max(lowest, 1e-30)))
        return _changed(
            setting, floor=_floor_below(lowest, p, card), dynamic_range_db=_range(reach, card)
        )
    reach = decibel * (float(features.max()) - low) / fit.slope
    floor = float(np.exp((low - fit.offset) / fit.slope))
    rounded = _ROUND_DB * round(reach / _ROUND_DB)
    decade = round(float(np.log10(floor)))
    if abs(reach - rounded) <= _ROUND_DB_WITHIN:
        lower = _floor_below(floor, p, card)
        return _changed(setting, floor=lower, dynamic_range_db=rounded)
    if abs(np.log10(floor) - decade) <= _ROUND_DECADE_WITHIN:
        floor = 10.0**decade
    else:
        floor = float(f"{floor:.3g}")
    return _changed(setting, floor=floor, dynamic_range_db=_range(reach, card))


def _floor_below(lowest: float, p: Parameters, card: Parameters) -> float:
    """Return a floor without effect: the card's, the usual one, or a lower one."""
    usual = usual_floor(p.spectrum)
    for floor in (card.floor if card.spectrum == p.spectrum else usual, usual):
        if floor <= lowest * (1 + _AT_MOST_WITHIN):
            return floor
    return float(10.0 ** np.floor(np.log10(max(lowest, 1e-30))))


def _range(reach: float, card: Parameters) -> float | None:
    """Return the card's range if no values are beyond it."""
    known = card.dynamic_range_db
    return known if known is not None and known >= reach - _ROUND_DB_WITHIN else None


def _changed(setting: Setting, **parameters: Any) -> Setting:
    return replace(setting, parameters=replace(setting.parameters, **parameters))
