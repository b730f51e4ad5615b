"""What one model says of one recording: prepare it, infer its windows, average over them."""

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
    """What one model says of one recording.

    Attributes:
        card: its card, with the labels of the version that answered.
        version: that version.
        scores: shape (labels,), after the card's activation, averaged over windows.
        raw: shape (labels,), before it.
        audio: metadata of the recording.
        started: when the request came, by `perf_counter`.
        stages_ms: where the time went until now.
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
        """The one vote there was."""
        return (Member(model=self.card.name, version=self.version, weight=1.0),)

    def timings_ms(self) -> dict[str, float]:
        """Return where the time went, and all of it until this call."""
        return {**self.stages_ms, "total": (perf_counter() - self.started) * 1e3}


def activate(card: Card, logits: Array) -> Array:
    """Turn raw outputs (n, labels) into scores by the card's activation."""
    if card.activation == "softmax":
        return np.asarray(softmax(logits.astype(np.float64), axis=-1))
    if card.activation == "sigmoid":
        return np.asarray(expit(logits.astype(np.float64)))
    return logits.astype(np.float64)


def served_model(models: Mapping[str, Model], name: str) -> Model:
    """Return a card's model.

    Raises:
        ModelNotInstalledError: it is not among those that can answer.
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
        preparation: what decodes and cuts.
        model: what to run.
        audio: encoded content.
        started: when the request came, by `perf_counter`.

    Raises:
        BandstandError: the refusals of `prepare`, and of the model.
    """
    card = model.card  # a new version may take over while the recording is prepared
    recording = await preparation.prepare(audio, (card,))
    return await run_prepared(model, recording.of(card), started)


async def run_prepared(model: Model, prepared: Prepared, started: float) -> ModelOutput:
    """Run a model on a recording that was prepared for it, as for other models in the same call.

    Args:
        model: what to run.
        prepared: the part of its card.
        started: when the request came, by `perf_counter`.

    Raises:
        BandstandError: the refusals of the model.
    """
    prepared_at = perf_counter()
    outputs = await model.infer(prepared.inputs)
    card, version = model.card, model.version  # before anything else is awaited
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
    """Return a probability as the percentage that answers show."""
    return round(100 * float(probability), 4)
