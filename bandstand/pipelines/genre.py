"""The genre of a recording."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from bandstand.errors import UnusableRequestError
from bandstand.pipelines.model_output import ModelOutput, percent, run_model, served_model
from bandstand.pipelines.resources import Resources
from bandstand.runners.pool import Model
from bandstand_client.contract.genre import GenreAnswer, GenreOptions, GenreScore

DEFAULT_MODEL = "genre_features"


async def classify(resources: Resources, audio: bytes, options: GenreOptions) -> GenreAnswer:
    """Name the genre of one recording.

    Args:
        resources: prepares the recording, and has the models.
        audio: encoded content.
        options: the model, and the number of genres to list.

    Raises:
        ModelNotFoundError, ModelNotInstalledError: there is no such model, or it is not served.
        UnusableRequestError: the model does not classify genres.
        ModelMismatchError: the model is broken.
        BandstandError: the refusals of `prepare`.
    """
    started = perf_counter()
    model = _chosen(resources, genre_model(resources, options))
    output = await run_model(resources.preparation, model, audio, started)
    ranked = _ranked(output)
    return GenreAnswer(
        primary_genre=ranked[0].genre,
        probability=ranked[0].probability,
        confidence=ranked[0].confidence,
        predictions=ranked[: options.top_k],
        all_scores=dict(zip(output.card.labels, output.scores.tolist(), strict=True)),
        method=output.card.name,
        members=output.members,
        audio=output.audio,
        timings_ms=output.timings_ms(),
    )


def genre_model(_resources: Resources, options: GenreOptions) -> str:
    """Return the name of the model that `classify` uses."""
    return options.model_name or DEFAULT_MODEL


def _chosen(resources: Resources, model_name: str) -> Model:
    card = resources.card(model_name)
    if card.task != "genre":
        raise UnusableRequestError(f"{card.name} is a model for {card.task}, not for genre")
    return served_model(resources.models, card.name)


def _ranked(output: ModelOutput) -> tuple[GenreScore, ...]:
    """Return all genres, the most probable first."""
    return tuple(
        GenreScore(
            genre=output.card.labels[i],
            probability=float(output.scores[i]),
            confidence=percent(output.scores[i]),
            raw_score=float(output.raw[i]),
        )
        for i in np.argsort(-output.scores, kind="stable")
    )
