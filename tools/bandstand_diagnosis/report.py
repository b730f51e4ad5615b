"""The diagnosis: compares a card's front end with training features, and finds their settings."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from bandstand.audio.waveform import Waveform
from bandstand.errors import UnusableRequestError
from bandstand.frontends import host
from bandstand.frontends.mel import DoubleArray, FloatArray
from bandstand.frontends.parameters import LogMelParameters, MfccParameters
from bandstand.models.card import Card
from bandstand_diagnosis.compare import Likeness, SpectrogramStatistics, likeness, statistics_of
from bandstand_diagnosis.fit import standardised
from bandstand_diagnosis.scale import Recipe, settle
from bandstand_diagnosis.spectra import Parameters, Spectra
from bandstand_diagnosis.sweep import Candidate, indistinguishable, sweep
from bandstand_diagnosis.timing import Clip, Timing, find_timings

Verdict = Literal["card_explains", "change_explains", "close", "unexplained", "unrelated"]

EXPLAINED, CLOSE = 0.02, 0.2
"""Residuals up to these count as equal features, and as close ones."""
SAME_RECORDING = 0.5
"""Frames of one recording correlate more than this under any settings near the right ones."""
_UNLIMITED_DB = 1000.0


@dataclass(frozen=True, slots=True)
class Change:
    """A line of the card that does not fit the features."""

    section: Literal["window", "front_end"]
    name: str
    card: float | int | str | bool | None
    features: float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of a diagnosis.

    Attributes:
        card: name of the card.
        verdict: `card_explains`: nothing to change. `change_explains`: `changes` (with
            `outside_the_card`) produce the features. `close`: similar, but not equal.
            `unexplained`: the same recording, with settings that were not tried. `unrelated`: not
            of this recording, or not from its start.
        frames_first: the file has `(frames, bands)`.
        training: statistics of the training features.
        serving: statistics of the features of the card's front end.
        likeness: similarity of these two.
        candidates: the best settings, best first.
        changes: lines of the card to change.
        undetermined: parameters with the values that this clip cannot distinguish.
        outside_the_card: settings of the features that a card has no field for.
        proof: residual of the serving front end's features with the changes; None if it cannot
            compute them.
        spectrograms: training features, the card's, and those of the best setting,
            `(frames, bands)` each.
    """

    card: str
    verdict: Verdict
    frames_first: bool
    training: SpectrogramStatistics
    serving: SpectrogramStatistics
    likeness: Likeness
    candidates: tuple[Candidate, ...]
    changes: tuple[Change, ...]
    undetermined: dict[str, tuple[Any, ...]]
    outside_the_card: tuple[str, ...]
    proof: float | None
    spectrograms: tuple[DoubleArray, FloatArray, DoubleArray]


def read_front_end(card: Card) -> Parameters:
    """Return the parameters of a card's front end.

    Raises:
        UnusableRequestError: its front end is not a spectrogram.
        CardError: it has unknown parameters.
    """
    kinds: dict[str, type[Parameters]] = {
        kind.kind: kind for kind in (LogMelParameters, MfccParameters)
    }
    if card.front_end.kind not in kinds:
        raise UnusableRequestError(
            f"{card.name} has the front end {card.front_end.kind}; "
            f"only {' and '.join(kinds)} can be diagnosed"
        )
    return kinds[card.front_end.kind].from_card(card)


def diagnose(features: DoubleArray, waveform: Waveform, card: Card) -> Diagnosis:
    """Compare training features with a card's front end, and find their settings.

    Args:
        features: of this recording from its start, two axes in whichever order, finite
            (`features.load_features`).
        waveform: the recording at its own rate.
        card: one with a `log_mel` or `mfcc` front end.

    Raises:
        UnusableRequestError: another front end, or a number of frames that no usual hop gives.
        CardError: the card's front end cannot be read.
    """
    parameters = read_front_end(card)
    clip = Clip(waveform)
    timings = find_timings(
        features,
        clip,
        card.window,
        hop=parameters.hop,
        n_fft=parameters.n_fft,
        cepstral=isinstance(parameters, MfccParameters),
    )
    candidates = sweep(features, clip, parameters, timings)
    if not candidates:
        raise UnusableRequestError(
            f"features of the shape {features.shape} do not fit "
            f"{waveform.duration_seconds:.2f} s of audio with any usual rate and hop: neither "
            "number nor loudness of the frames fits; are they of this recording, from its start?"
        )
    best = candidates[0]
    training = features if best.setting.timing.frames_first else features.T
    serving = _served(parameters, clip, best.setting.timing, len(training))
    alike = likeness(training, serving)
    recipe, proof = None, None
    if best.frame_correlation >= SAME_RECORDING:
        bands = Spectra(clip, np.arange(len(training))).bands(best.setting)
        recipe = settle(best, training, bands, parameters)
        proof = _proof(recipe, clip, training)
    verdict = _verdict(alike, best, proof)
    with_lines = verdict in {"change_explains", "close"}
    return Diagnosis(
        card=card.name,
        verdict=verdict,
        frames_first=best.setting.timing.frames_first,
        training=statistics_of(training),
        serving=statistics_of(serving),
        likeness=alike,
        candidates=tuple(candidates),
        changes=_changes(parameters, recipe) if recipe and with_lines else (),
        undetermined=_undetermined(candidates) if with_lines else {},
        outside_the_card=recipe.outside_the_card if recipe and with_lines else (),
        proof=proof if with_lines else None,
        spectrograms=(training, serving, best.explained),
    )


def _verdict(alike: Likeness, best: Candidate, proof: float | None) -> Verdict:
    served = alike.residual
    if served is not None and served <= EXPLAINED and indistinguishable(served, best.fit.residual):
        return "card_explains"
    if best.frame_correlation < SAME_RECORDING:
        return "unrelated"
    left = max(best.fit.residual, proof or 0.0)
    if left <= EXPLAINED:
        return "change_explains"
    return "close" if left <= CLOSE else "unexplained"


def _served(parameters: Parameters, clip: Clip, timing: Timing, frames: int) -> FloatArray:
    """Return the serving front end's features of the audio of the training features."""
    count = timing.samples if timing.sample_rate == parameters.sample_rate else None
    samples = clip.samples(parameters.sample_rate, count)
    if len(samples) <= parameters.n_fft:
        raise UnusableRequestError(f"{len(samples)} samples of audio are too few for a spectrum")
    front_end = host.mfcc if isinstance(parameters, MfccParameters) else host.log_mel
    made: FloatArray = front_end(samples[None], parameters)[0]  # type: ignore[arg-type]
    if timing.exact:
        return made
    seconds = frames * timing.hop / timing.sample_rate
    return made[: round(seconds * parameters.sample_rate / parameters.hop)]


def _proof(recipe: Recipe, clip: Clip, training: DoubleArray) -> float | None:
    """Make the features with the serving front end, rescale them, and compare."""
    setting, frames = recipe.setting, len(training)
    p, timing = setting.parameters, setting.timing
    if setting.window_length != p.n_fft or setting.added:
        return None
    ways = [timing]
    if not timing.exact:
        # The audio may have been cut, too, so its loudest value can be after the cut.
        covered = (frames - 1) * timing.hop + (p.n_fft if p.padding == "none" else 0)
        ways.append(replace(timing, samples=covered, exact=True))
    residuals = [
        _residual(training, _served(p, clip, way, frames).astype(np.float64), recipe)
        for way in ways
    ]
    return min((residual for residual in residuals if residual is not None), default=None)


def _residual(training: DoubleArray, made: DoubleArray, recipe: Recipe) -> float | None:
    if recipe.per_band:
        made, training = standardised(made), standardised(training)
    elif recipe.rescaling is not None:
        made = made * recipe.rescaling.slope + recipe.rescaling.offset
        # What was cut off after the rescaling is cut off here.
        made = np.clip(made, training.min(), training.max())
    return likeness(training, made).residual


def _changes(card: Parameters, recipe: Recipe) -> tuple[Change, ...]:
    own = recipe.setting.parameters
    changes: list[Change] = []
    for field in fields(own):
        old, new = getattr(card, field.name), getattr(own, field.name)
        to_the_top = field.name == "high_hz" and old is None and new == own.sample_rate / 2
        if old != new and not to_the_top:
            section = "window" if field.name == "sample_rate" else "front_end"
            changes.append(Change(section, field.name, old, new))  # type: ignore[arg-type]
    return tuple(changes)


def card_lines(changes: tuple[Change, ...], kind: str) -> str:
    """Return changes as the YAML lines of a card; comments give the card's present values."""
    lines: list[str] = []
    window = [change for change in changes if change.section == "window"]
    front_end = [change for change in changes if change.section == "front_end"]
    if window:
        lines += ["window:", *(f"  {_line(change)}" for change in window)]
    if front_end:
        lines += ["front_end:", f"  kind: {kind}", "  parameters:"]
        lines += [f"    {_line(change)}" for change in front_end]
    return "\n".join(lines)


def _line(change: Change) -> str:
    value = change.features
    if value is None:  # a card holds no null; no clip reaches this far
        value = _UNLIMITED_DB
    return f"{change.name}: {_yaml(value)}  # the card: {_yaml(change.card)}"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    if isinstance(value, float) and value < 1e-3:  # noqa: PLR2004 - YAML needs a point in 1.0e-10
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa)}e{exponent}"
    return str(value)


def _undetermined(candidates: list[Candidate]) -> dict[str, tuple[Any, ...]]:
    """Return the parameters that differ among equally good settings."""
    best = candidates[0].setting
    equal = [
        each.setting
        for each in candidates
        if each.indistinguishable and each.setting.added == best.added
    ]
    names = [field.name for field in fields(equal[0].parameters)]
    values = {
        name: tuple(dict.fromkeys(getattr(each.parameters, name) for each in equal))
        for name in names
        if name not in {"reference", "level"}
    }
    if any(each.window_length != each.parameters.n_fft for each in equal):
        values["window_length"] = tuple(dict.fromkeys(each.window_length for each in equal))
    return {name: different for name, different in values.items() if len(different) > 1}
