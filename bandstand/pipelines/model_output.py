"""Runs one model on one recording: prepares it, infers its windows, averages their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from scipy.special import expit, softmax

from bandstand.errors import ModelNotInstalledError
from bandstand.models.card import Card
from bandstand.models.repository import install_command
from bandstand.pipelines.prepare import Preparation
from bandstand.pipelines.prepared import Prepared
from bandstand.runners.base import Array
from bandstand.runners.pool import Model
from bandstand_client.contract.shared import AudioMetadata, Member


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """The output of one model for one recording.

    Attributes:
        card: the model's card, with the labels of the version that answered.
        version: that version.
        scores: shape (labels,), after the card's activation, averaged over windows.
        raw: shape (labels,), before the activation, averaged over windows.
        audio: metadata of the recording.
        started: the start of the request, by `perf_counter`.
        stages_ms: the time of each stage so far.
    """

    card: Card
    version: int
    scores: Array
    raw: Array
    audio: AudioMetadata
    started: float
    stages_ms: dict[str, float]

    @property
    def members(self) -> tuple[Member, ...]:
        """The members of the answer: this model alone."""
        return (Member(model=self.card.name, version=self.version, weight=1.0),)

    def timings_ms(self) -> dict[str, float]:
        """Return the time of each stage, and the total until this call."""
        return {**self.stages_ms, "total": (perf_counter() - self.started) * 1e3}


def activate(card: Card, logits: Array) -> Array:
    """Return scores, computed from raw outputs (n, labels) with the card's activation."""
    if card.activation == "softmax":
        return np.asarray(softmax(logits.astype(np.float64), axis=-1))
    if card.activation == "sigmoid":
        return np.asarray(expit(logits.astype(np.float64)))
    return logits.astype(np.float64)


def served_model(models: Mapping[str, Model], name: str) -> Model:
    """Return a model by name.

    Raises:
        ModelNotInstalledError: it is not served.
    """
    try:
        return models[name]
    except KeyError:
        raise ModelNotInstalledError(
            f"{name} is not served here; if it is not installed, "
            f"`{install_command(name)}` installs it"
        ) from None


async def run_model(
    preparation: Preparation, model: Model, audio: bytes, started: float
) -> ModelOutput:
    """Run a model on one recording.

    Args:
        preparation: prepares the recording.
        model: the model to run.
        audio: encoded content.
        started: the start of the request, by `perf_counter`.

    Raises:
        BandstandError: the refusals of `prepare`, and of the model.
    """
    card = model.card  # the version may change while the recording is prepared
    recording = await preparation.prepare(audio, (card,))
    return await run_prepared(model, recording.of(card), started)


async def run_prepared(model: Model, prepared: Prepared, started: float) -> ModelOutput:
    """Run a model on a prepared recording.

    Args:
        model: the model to run.
        prepared: the recording, prepared for the model's card.
        started: the start of the request, by `perf_counter`.

    Raises:
        BandstandError: the refusals of the model.
    """
    prepared_at = perf_counter()
    outputs = await model.infer(prepared.inputs)
    card, version = model.card, model.version  # before another await: they may change then
    finished = perf_counter()
    logits = outputs[card.outputs[0].name]
    weights = prepared.durations_seconds
    return ModelOutput(
        card=card,
        version=version,
        scores=np.average(activate(card, logits), axis=0, weights=weights),
        raw=np.average(logits, axis=0, weights=weights),
        audio=prepared.audio,
        started=started,
        stages_ms={
            **prepared.timings_ms,
            "prepare": (prepared_at - started) * 1e3,
            "inference": (finished - prepared_at) * 1e3,
        },
    )


def percent(probability: float) -> float:
    """Return a probability in percent, rounded as in answers."""
    return round(100 * float(probability), 4)
