"""The instruments that play in a recording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from time import perf_counter

from bandstand.errors import (
    BandstandError,
    ModelMismatchError,
    ModelNotInstalledError,
    UnusableRequestError,
)
from bandstand.models.repository import install_command
from bandstand.pipelines.model_output import ModelOutput, percent, run_model, served_model
from bandstand.pipelines.resources import Resources
from bandstand_client.contract.instruments import (
    InstrumentsAnswer,
    InstrumentScore,
    InstrumentsOptions,
)

_PREFERRED = ("instruments_ast", "tags_jamendo")  # the model with the most instruments first


async def detect_instruments(
    resources: Resources, audio: bytes, options: InstrumentsOptions
) -> InstrumentsAnswer:
    """Name the instruments of one recording.

    Args:
        resources: prepares the recording, and has the models.
        audio: encoded content.
        options: the model (None: the best that is served), and the lowest probability of a listed
            instrument.

    Raises:
        ModelNotFoundError, ModelNotInstalledError: there is no such model, or it is not served.
        UnusableRequestError: the model does not detect instruments.
        ModelMismatchError: the model is broken, or has none of its card's instruments.
        BandstandError: the refusals of `prepare`.
    """
    started = perf_counter()
    if options.model_name:
        name = _checked_name(resources, options.model_name)
        output = await _run(resources, name, audio, started)
    else:
        output = await _run_best(resources, audio, started)
    return _answer(output, options.threshold)


def instruments_model(resources: Resources, options: InstrumentsOptions) -> str:
    """Return the name of the model that `detect_instruments` uses, as far as it is known now."""
    if options.model_name:
        return options.model_name
    served = (name for name in _by_preference(resources) if name in resources.models)
    return next(served, _PREFERRED[0])


async def _run(resources: Resources, name: str, audio: bytes, started: float) -> ModelOutput:
    model = served_model(resources.models, name)
    return await run_model(resources.preparation, model, audio, started)


async def _run_best(resources: Resources, audio: bytes, started: float) -> ModelOutput:
    # Only a call shows whether a remote model is served; a list may be out of date.
    for name in _by_preference(resources):
        with suppress(ModelNotInstalledError):
            return await _run(resources, name, audio, started)
    raise ModelNotInstalledError(
        "no model that detects instruments is served here; "
        f"`{install_command(_PREFERRED[0])}` installs one"
    )


def _checked_name(resources: Resources, name: str) -> str:
    card = resources.card(name)
    if not card.instruments:
        raise UnusableRequestError(
            f"{card.name} is a model for {card.task}, and detects no instruments"
        )
    return card.name


def _by_preference(resources: Resources) -> Iterator[str]:
    yield from _PREFERRED
    for name in resources.catalogue:
        if name not in _PREFERRED and _has_instruments(resources, name):
            yield name


def _has_instruments(resources: Resources, name: str) -> bool:
    try:
        return bool(resources.card(name).instruments)
    except BandstandError:  # a broken model is not tried
        return False


def _answer(output: ModelOutput, threshold: float) -> InstrumentsAnswer:
    known = [i for i, label in enumerate(output.card.labels) if label in output.card.instruments]
    if not known:
        raise ModelMismatchError(
            f"{output.card.name} version {output.version} has none of its card's instruments"
        )
    ranked = sorted(known, key=lambda i: -output.scores[i])
    listed = tuple(_score(output, i) for i in ranked if output.scores[i] >= threshold)
    sounds = {score.sound for score in listed}
    return InstrumentsAnswer(
        instruments=listed,
        primary=listed[0].instrument if listed else None,
        has_acoustic="acoustic" in sounds,
        has_electronic="electronic" in sounds,
        threshold=threshold,
        all_scores={_display_name(output.card.labels[i]): float(output.scores[i]) for i in known},
        method=output.card.name,
        members=output.members,
        audio=output.audio,
        timings_ms=output.timings_ms(),
    )


def _score(output: ModelOutput, column: int) -> InstrumentScore:
    label = output.card.labels[column]
    return InstrumentScore(
        instrument=_display_name(label),
        label=label,
        probability=float(output.scores[column]),
        confidence=percent(output.scores[column]),
        raw_score=float(output.raw[column]),
        sound=output.card.instruments[label],
    )


def _display_name(label: str) -> str:
    """Return the name without the prefix of MTG-Jamendo's tags, which is the kind of tag."""
    return label.rpartition("---")[2]
