"""Tries the usual settings, coarse to fine, and ranks those that fit training features best.  All
combinations of parameters would take hours. But a few frames distinguish most of them, slope and
offset of a scale are fitted, not searched, and each stage varies only some parameters of the best
settings of the stage before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import groupby, product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import idct

from bandstand.frontends.mel import DoubleArray, MelScale
from bandstand.frontends.parameters import LogMelParameters, MfccParameters
from bandstand_diagnosis.compare import movement_correlation
from bandstand_diagnosis.fit import Fit, Limits, Target, is_standardised_per_band
from bandstand_diagnosis.spectra import Parameters, Setting, Spectra
from bandstand_diagnosis.timing import USUAL_N_FFT, Clip, Timing

Padding = Literal["constant", "reflect", "none"]
Spectrum = Literal["power", "magnitude"]

_LOW_EDGES_HZ = (0.0, 20.0, 30.0, 50.0, 80.0, 125.0)
_HIGH_EDGES_HZ = (4_000.0, 7_600.0, 8_000.0, 10_000.0, 11_025.0, 16_000.0, 20_000.0)
_BAND_COUNTS = (
    128,
    96,
    80,
    64,
    40,
    26,
    23,
    20,
)  # for cepstra; otherwise the shape gives the number
_FLOORS = (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1.0)
_RANGES_DB = (None, 80.0)
_PADDINGS: tuple[Padding, ...] = ("constant", "reflect")
_CENTRED_OR_NOT: tuple[Padding, ...] = ("constant", "none")
_MEL_SCALES: tuple[MelScale, ...] = ("slaney", "htk")
_SPECTRA: tuple[Spectrum, ...] = ("power", "magnitude")
_USUAL_WINDOW_SECONDS = 0.025
_COARSE_FRAMES = 40
_LOUDEST_FRAMES = 8
_EDGE_FRAMES = 6
_KEPT, _KEPT_OF_CEPSTRA, _SHOWN, _SHOWN_OF_A_KIND = 10, 3, 16, 3
_MOST_SEARCHES = 2
_QUIET_SHARE = 0.4
"""Quiet cells show the floor of logarithms; the other cells show other differences."""
_CERTAIN = 1e-3
"""With a smaller residual, no other timing is tried."""
_ENOUGH = 0.2
"""With a smaller residual, unlikely timings are not tried."""
_SCOUTS_LEAD, _NEAR_LENGTH = 1.5, 1.5
_NOISE = 5e-6
_SAME_BUT_FOR_CHANCE = 1.25


@dataclass(frozen=True, slots=True)
class Candidate:
    """A setting and its fit to all frames.

    Attributes:
        setting: possible settings of the features.
        fit: its slope, offset and residual.
        frame_correlation: of features and prediction, after each band's mean is subtracted.
        explained: the features that the fit predicts, `(frames, bands)`.
        per_band: features and prediction have every band standardised.
        indistinguishable: equal to the best one, within the precision of this clip.
    """

    setting: Setting
    fit: Fit
    frame_correlation: float
    explained: DoubleArray = field(repr=False, compare=False)
    per_band: bool
    indistinguishable: bool = False


FrameIndex = NDArray[np.int64]
Score = Callable[[Setting], Fit]


def indistinguishable(residual: float, best: float) -> bool:
    """Whether two residuals differ by no more than noise."""
    return residual <= _SAME_BUT_FOR_CHANCE * max(best, _NOISE)


def sweep(
    features: DoubleArray,
    clip: Clip,
    card: Parameters,
    timings: tuple[Sequence[Timing], Sequence[Timing]],
) -> list[Candidate]:
    """Rank settings by their residuals; of equal ones, the one nearest the card first.

    Args:
        features: two axes, in whichever order.
        clip: their recording.
        card: the card's front end, which every stage tries too.
        timings: possible timings of the features: likely ones, and others that are tried if no
            likely one fits (`timing.find_timings`).
    """
    candidates: list[Candidate] = []
    for group in timings:
        searches = [
            _Search(features if timing.frames_first else features.T, clip, card, timing)
            for timing in group
        ]
        for search in sorted(searches, key=lambda each: each.scouted)[:_MOST_SEARCHES]:
            candidates += search.run()
            if _lowest(candidates) < _CERTAIN:
                break
        if _lowest(candidates) < _ENOUGH:
            break
    best = _lowest(candidates)
    marked = [
        replace(each, indistinguishable=indistinguishable(each.fit.residual, best))
        for each in candidates
    ]
    return sorted(
        marked,
        key=lambda each: (
            (0, _changes(each.setting, card), each.fit.residual)
            if each.indistinguishable
            else (1, 0, each.fit.residual)
        ),
    )[:_SHOWN]


def _lowest(candidates: Iterable[Candidate]) -> float:
    return min((candidate.fit.residual for candidate in candidates), default=1.0)


def usual_high_edges(parameters: Parameters) -> set[float]:
    """Return upper edges in Hz to try: the usual ones below half the rate, and that."""
    nyquist = parameters.sample_rate / 2
    return {nyquist, *(edge for edge in _HIGH_EDGES_HZ if edge < nyquist)}


class _Search:
    """The stages for one timing."""

    def __init__(self, features: DoubleArray, clip: Clip, card: Parameters, timing: Timing) -> None:
        self._features, self._clip, self._timing = features, clip, timing
        self._cepstral = isinstance(card, MfccParameters)
        self._limits = Limits.of(features)
        self._per_band = is_standardised_per_band(features)
        shape: dict[str, Any] = (
            {"n_mfcc": features.shape[1], "n_mels": max(card.n_mels, features.shape[1])}
            if self._cepstral
            else {"n_mels": features.shape[1]}
        )
        nyquist = timing.sample_rate / 2
        self._own_high = nyquist if card.high_hz is None else min(card.high_hz, nyquist)
        self._card = replace(
            card,
            sample_rate=timing.sample_rate,
            hop=timing.hop,
            high_hz=self._own_high,
            reference="one",
            dynamic_range_db=card.dynamic_range_db if self._cepstral else None,
            **shape,
        )
        self._levels = {"decibels"} if self._cepstral else {"decibels", "linear"}
        self._scout()

    def _scout(self) -> None:
        """Try few settings, to exclude timings, transforms and levels that cannot fit."""
        nyquist = self._timing.sample_rate / 2
        edges = {(self._card.low_hz, self._own_high), (0.0, nyquist), (0.0, min(8e3, nyquist))}
        score = self._score(self._coarse(), loud_only=True)
        whole = (one for one in self._transforms() if one.window_length == one.parameters.n_fft)
        by_length: dict[int, float] = {}
        by_level: dict[str, float] = {}
        for setting in self._geometries(whole, edges):
            p, left = setting.parameters, score(setting).residual
            by_length[p.n_fft] = min(left, by_length.get(p.n_fft, left))
            by_level[p.level] = min(left, by_level.get(p.level, left))
        self.scouted = min(by_length.values(), default=1.0)
        near = _SCOUTS_LEAD * self.scouted
        self._lengths = {length for length, left in by_length.items() if left <= near}
        self._levels = {level for level, left in by_level.items() if left <= near}

    def _is_promising(self, start: Setting) -> bool:
        """Whether a transform's resolution in time and frequency is about that of the features."""
        window = start.window_length
        return start.parameters.n_fft in self._lengths or any(
            window / _NEAR_LENGTH <= length <= window * _NEAR_LENGTH for length in self._lengths
        )

    def run(self) -> list[Candidate]:
        """Return the best settings, judged by all frames."""
        coarse, frames = self._coarse(), len(self._features)
        score = self._score(coarse, loud_only=True)
        starts = [start for start in self._transforms() if self._is_promising(start)]
        kept = _best(self._geometries(starts, self._edges()), score, _KEPT)
        if self._cepstral:
            kept = _best(self._cepstral_shapes(kept[:_KEPT_OF_CEPSTRA]), score, _KEPT)
            again = (each for one in kept[:_KEPT_OF_CEPSTRA] for each in self._resolutions(one))
            kept = _best([*kept, *again], score, _KEPT)
        if not kept:
            return []
        ends = [*range(_EDGE_FRAMES), *range(frames - _EDGE_FRAMES, frames)]
        finely = self._score(np.unique([*coarse, *ends]), loud_only=False)
        ranked = _best(self._details(kept), finely, None)
        return self._judged(_few_of_a_kind(ranked))

    def _coarse(self) -> FrameIndex:
        """Return frames all over the clip, and those whose peak is highest."""
        bands = idct(self._features, axis=1, norm="ortho") if self._cepstral else self._features
        peaks = bands.max(axis=1)
        last = len(self._features) - 1 - _EDGE_FRAMES
        inner = np.linspace(min(_EDGE_FRAMES, last), last, _COARSE_FRAMES).astype(np.int64)
        return np.unique([*inner, *np.argsort(peaks)[-_LOUDEST_FRAMES:]])

    def _score(self, frames: FrameIndex, *, loud_only: bool) -> Score:
        spectra = Spectra(self._clip, frames)
        limits = self._limits
        if loud_only and not self._cepstral:
            quiet = float(np.quantile(self._features[frames], _QUIET_SHARE))
            limits = replace(limits, low=max(limits.low, quiet))
        target = self._target(self._features[frames], limits)
        return lambda setting: target.fit(spectra.model(setting))

    def _target(self, features: DoubleArray, limits: Limits) -> Target:
        return Target(features, limits, cepstral=self._cepstral, per_band=self._per_band)

    def _judged(self, settings: Iterable[Setting]) -> list[Candidate]:
        target = self._target(self._features, self._limits)
        judged = []
        every = np.arange(len(self._features))
        # One transform at a time: those of all frames of all settings would fill the memory.
        for _, alike in groupby(sorted(settings, key=_transform), key=_transform):
            spectra = Spectra(self._clip, every)
            for setting in alike:
                model = spectra.model(setting)
                fit = target.fit(model)
                explained = target.explained(fit, model)
                moves = movement_correlation(target.values, explained)
                judged.append(Candidate(setting, fit, moves, explained, self._per_band))
        return judged

    def _geometries(
        self, starts: Iterable[Setting], edges: Iterable[tuple[float, float]]
    ) -> Iterator[Setting]:
        """Yield transforms, bands, and logarithm or not, which band profile and blur determine."""
        if self._cepstral:
            own = (self._card.low_hz, self._own_high)
            edges = {own, (0.0, self._timing.sample_rate / 2)}
        for start, (low, high), scale, area, spectrum, level in product(
            starts,
            sorted(edges),
            _MEL_SCALES,
            (True, False),
            _SPECTRA,
            sorted(self._levels),
        ):
            yield _changed(
                start,
                low_hz=low,
                high_hz=high,
                mel_scale=scale,
                area_normalised=area,
                spectrum=spectrum,
                level=level,
                floor=usual_floor(spectrum),
            )

    def _transforms(self) -> Iterator[Setting]:
        """Yield lengths of transform and window, and centring, that give this many frames."""
        lengths = {self._card.n_fft, *USUAL_N_FFT}
        short = round(_USUAL_WINDOW_SECONDS * self._timing.sample_rate)
        for n_fft, padding in product(sorted(lengths), _CENTRED_OR_NOT):
            parameters = replace(self._card, n_fft=n_fft, padding=padding)
            windows = {n_fft, *(w for w in (short, n_fft // 2) if n_fft // 4 < w < n_fft)}
            for window in sorted(windows):
                setting = Setting(self._timing, parameters, window)
                if self._gives_the_frames(setting):
                    yield setting

    def _gives_the_frames(self, setting: Setting) -> bool:
        wanted = len(self._features)
        return setting.frames == wanted or (not self._timing.exact and setting.frames > wanted)

    def _edges(self) -> set[tuple[float, float]]:
        return {
            (self._card.low_hz, self._own_high),
            *product(_LOW_EDGES_HZ, usual_high_edges(self._card)),
        }

    def _cepstral_shapes(self, kept: Iterable[Setting]) -> Iterator[Setting]:
        """Yield numbers of bands and their edges, which cepstra hide."""
        n_mfcc = self._features.shape[1]
        counts = sorted({self._card.n_mels, *_BAND_COUNTS})
        for one, (low, high), count in product(kept, sorted(self._edges()), counts):
            if count >= n_mfcc:
                yield _changed(one, low_hz=low, high_hz=high, n_mels=count)

    def _resolutions(self, one: Setting) -> Iterator[Setting]:
        """Yield again the settings chosen before the number of bands was known."""
        for start, scale, area, spectrum, span in product(
            self._transforms(),
            _MEL_SCALES,
            (True, False),
            _SPECTRA,
            {*_RANGES_DB, self._card.dynamic_range_db},
        ):
            parameters = replace(
                one.parameters,
                n_fft=start.parameters.n_fft,
                padding=start.parameters.padding,
                mel_scale=scale,
                area_normalised=area,
                spectrum=spectrum,
                floor=usual_floor(spectrum),
                dynamic_range_db=span,
            )
            yield replace(one, parameters=parameters, window_length=start.window_length)

    def _details(self, kept: Sequence[Setting]) -> Iterator[Setting]:
        """Yield paddings, and floors of logarithms, which affect few cells."""
        padded = [
            _changed(one, padding=padding)
            for one in kept
            for padding in (("none",) if one.parameters.padding == "none" else _PADDINGS)
        ]
        yield from padded
        for one, floor, added in product(
            padded[:_KEPT], sorted({*_FLOORS, self._card.floor}), (False, True)
        ):
            # A floor below log-mel bands shows as a limit; it needs no trying.
            if one.parameters.level != "linear" and (added or self._cepstral):
                yield replace(_changed(one, floor=floor), added=added)


def usual_floor(spectrum: Spectrum) -> float:
    """Return librosa's `amin` in the unit of a spectrum."""
    return 1e-10 if spectrum == "power" else 1e-5


def _transform(setting: Setting) -> tuple[int, int, str]:
    return setting.parameters.n_fft, setting.window_length, setting.parameters.padding


def _changed(setting: Setting, **parameters: Any) -> Setting:
    return replace(setting, parameters=replace(setting.parameters, **parameters))


def _best(settings: Iterable[Setting], score: Score, count: int | None) -> list[Setting]:
    unique = list(dict.fromkeys(settings))
    ranked = sorted((score(setting).residual, index) for index, setting in enumerate(unique))
    return [unique[index] for _, index in ranked[:count]]


def _few_of_a_kind(ranked: Iterable[Setting]) -> list[Setting]:
    """Keep the best settings, and few that differ only in details."""
    kept: list[Setting] = []
    kinds: Counter[tuple[object, ...]] = Counter()
    for setting in ranked:
        plain = _changed(setting, floor=1.0, padding="constant").parameters
        kind = (plain, setting.window_length, setting.added)
        kinds[kind] += 1
        if kinds[kind] <= _SHOWN_OF_A_KIND:
            kept.append(setting)
    return kept[:_SHOWN]


def _changes(setting: Setting, card: Parameters) -> int:
    """Count the lines of the card to change, and the settings it has no field for."""
    own = setting.parameters
    names = [each.name for each in fields(LogMelParameters)]
    high = card.high_hz or card.sample_rate / 2
    changed: int = sum(
        getattr(own, name) != getattr(card, name)
        for name in names
        if name not in {"high_hz", "reference", "level", "dynamic_range_db"}
    )
    if isinstance(own, MfccParameters):
        changed += own.dynamic_range_db != card.dynamic_range_db
    return changed + (own.high_hz != high) + (setting.window_length != own.n_fft) + setting.added
