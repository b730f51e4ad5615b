"""Asking one model about a recording: prepare it, infer its windows, join by audio in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np
from scipy.special import expit, softmax

from bandstand.errors import ModelNotInstalledError
from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.models.repository import install_command
from bandstand.pipelines.answers import AudioFacts, Member
from bandstand.pipelines.prepare import Preparation
from bandstand.runners.base import Array


class Model(Protocol):
    """A model that answers batches, wherever it runs.

    A new version may take over between two batches: right after `infer`, `card` and `version` are
    those of the version that answered.
    """

    @property
    def card(self) -> Card:
        """Its card, with that version's labels."""
        ...

    @property
    def version(self) -> int:
        """The version that answered last."""
        ...

    async def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Answer one batch; see `bandstand.runners.base.Runner.run`."""
        ...


@dataclass(frozen=True, slots=True)
class Heard:
    """What one model says of one recording.

    Attributes:
        card: its card, with the labels of the version that answered.
        version: that version.
        scores: shape (labels,), after the card's activation, averaged over windows.
        raw: shape (labels,), before it.
        audio: facts of the recording.
        started: when the question came, by `perf_counter`.
        stages_ms: where the time went until now.
    """

    card: Card
    version: int
    scores: Array
    raw: Array
    audio: AudioFacts
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


def card_of(models: Mapping[str, Model], catalogue: Catalogue, name: str) -> Card:
    """Return the card of a model, whether it is among those that can answer or not.

    Raises:
        BandstandError: as `Catalogue.card`.
    """
    # A model that answers knows its card; the catalogue would read it from the disk.
    return models[name].card if name in models else catalogue.card(name)


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


async def hear(preparation: Preparation, model: Model, audio: bytes, started: float) -> Heard:
    """Ask a model about one recording.

    Args:
        preparation: what decodes and cuts.
        model: whom to ask.
        audio: encoded content.
        started: when the question came, by `perf_counter`.

    Raises:
        BandstandError: the refusals of `prepare`, and of the model.
    """
    prepared = await preparation.prepare(audio, model.card)
    prepared_at = perf_counter()
    outputs = await model.infer(prepared.inputs)
    card, version = model.card, model.version  # before anything else is awaited
    finished = perf_counter()
    logits = outputs[card.outputs[0].name]
    weights = prepared.durations_seconds
    return Heard(
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
