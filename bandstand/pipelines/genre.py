"""The genre of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

import numpy as np

from bandstand.errors import UnusableRequestError
from bandstand.models.catalogue import Catalogue
from bandstand.pipelines.answers import GenreAnswer, GenreScore
from bandstand.pipelines.classify import Heard, Model, card_of, hear, served_model
from bandstand.pipelines.prepare import Preparation

DEFAULT_MODEL = "genre_features"
DEFAULT_TOP_K = 3


class GenrePipeline:
    """Audio bytes to `GenreAnswer`.

    Args:
        preparation: what decodes and cuts.
        models: the models that can answer, by name.
        catalogue: all models, to say why one cannot.
    """

    def __init__(
        self, preparation: Preparation, models: Mapping[str, Model], catalogue: Catalogue
    ) -> None:
        self._preparation = preparation
        self._models = models
        self._catalogue = catalogue

    def _choose(self, name: str | None) -> Model:
        card = card_of(self._models, self._catalogue, name or DEFAULT_MODEL)
        if card.task != "genre":
            raise UnusableRequestError(f"{card.name} answers {card.task}, not genre")
        return served_model(self._models, card.name)

    async def predict(
        self, audio: bytes, *, model: str | None = None, top_k: int = DEFAULT_TOP_K
    ) -> GenreAnswer:
        """Name the genre of one recording.

        Args:
            audio: encoded content.
            model: the name of a model of genres; None: the default model.
            top_k: how many genres to list, best first.

        Raises:
            ModelNotFoundError, ModelNotInstalledError, UnusableRequestError: the model.
            ModelMismatchError: it is broken.
            BandstandError: the refusals of `prepare`.
        """
        started = perf_counter()
        heard = await hear(self._preparation, self._choose(model), audio, started)
        ranked = _ranked(heard)
        return GenreAnswer(
            primary_genre=ranked[0].genre,
            confidence=ranked[0].confidence,
            predictions=ranked[:top_k],
            all_scores=dict(zip(heard.card.labels, heard.scores.tolist(), strict=True)),
            method=heard.card.name,
            members=heard.members,
            audio=heard.audio,
            timings_ms=heard.timings_ms(),
        )


def _ranked(heard: Heard) -> tuple[GenreScore, ...]:
    """Return every genre, best first."""
    return tuple(
        GenreScore(
            genre=heard.card.labels[i],
            confidence=round(100 * float(heard.scores[i]), 4),
            raw_score=float(heard.raw[i]),
        )
        for i in np.argsort(-heard.scores, kind="stable")
    )
