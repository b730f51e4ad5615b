"""The genre of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Protocol

import numpy as np
from scipy.special import expit, softmax

from bandstand.errors import ModelNotInstalledError, UnusableRequestError
from bandstand.models.card import Card, get_card
from bandstand.models.repository import install_command
from bandstand.pipelines.answers import GenreAnswer, GenreScore, Member
from bandstand.pipelines.prepare import Preparation
from bandstand.runners.base import Array

DEFAULT_MODEL = "genre_features"
DEFAULT_TOP_K = 3


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


def activate(card: Card, logits: Array) -> Array:
    """Turn raw outputs (n, labels) into scores by the card's activation."""
    if card.activation == "softmax":
        return np.asarray(softmax(logits.astype(np.float64), axis=-1))
    if card.activation == "sigmoid":
        return np.asarray(expit(logits.astype(np.float64)))
    return logits.astype(np.float64)


class GenrePipeline:
    """Audio bytes to `GenreAnswer`: prepare, infer every window, join by real audio in each.

    Args:
        preparation: what decodes and cuts.
        models: the models that can answer, by name.
    """

    def __init__(self, preparation: Preparation, models: Mapping[str, Model]) -> None:
        self._preparation = preparation
        self._models = models

    def _choose(self, name: str | None) -> Model:
        card = get_card(name or DEFAULT_MODEL)
        if card.task != "genre":
            raise UnusableRequestError(f"{card.name} answers {card.task}, not genre")
        try:
            return self._models[card.name]
        except KeyError:
            raise ModelNotInstalledError(
                f"{card.name} is not served here; if it is not installed, "
                f"`{install_command(card.name)}` installs it"
            ) from None

    async def predict(
        self, audio: bytes, *, model: str | None = None, top_k: int = DEFAULT_TOP_K
    ) -> GenreAnswer:
        """Name the genre of one recording.

        Args:
            audio: encoded content.
            model: a genre card's name; None: the default model.
            top_k: how many genres to list, best first.

        Raises:
            ModelNotFoundError, ModelNotInstalledError, UnusableRequestError: the model.
            BandstandError: the refusals of `prepare`.
        """
        started = perf_counter()
        chosen = self._choose(model)
        prepared = await self._preparation.prepare(audio, chosen.card)
        prepared_at = perf_counter()
        outputs = await chosen.infer(prepared.inputs)
        card, version = chosen.card, chosen.version  # before anything else is awaited
        finished = perf_counter()
        logits = outputs[card.outputs[0].name]
        weights = prepared.durations_seconds
        scores = np.average(activate(card, logits), axis=0, weights=weights)
        raw = np.average(logits, axis=0, weights=weights)
        ranked = tuple(
            GenreScore(
                genre=card.labels[i],
                confidence=round(100 * float(scores[i]), 4),
                raw_score=float(raw[i]),
            )
            for i in np.argsort(-scores, kind="stable")
        )
        return GenreAnswer(
            primary_genre=ranked[0].genre,
            confidence=ranked[0].confidence,
            predictions=ranked[:top_k],
            all_scores=dict(zip(card.labels, scores.tolist(), strict=True)),
            method=card.name,
            members=(Member(model=card.name, version=version, weight=1.0),),
            audio=prepared.audio,
            timings_ms={
                **prepared.timings_ms,
                "prepare": (prepared_at - started) * 1e3,
                "inference": (finished - prepared_at) * 1e3,
                "total": (perf_counter() - started) * 1e3,
            },
        )
