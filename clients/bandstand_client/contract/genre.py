"""The genre of a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from bandstand_client.contract.declaration import (
    SCHEMA_OF_ANSWERS,
    SCHEMA_OF_OPTIONS,
    Operation,
    Option,
)
from bandstand_client.contract.shared import AudioMetadata, Member, Percent, Probability


@dataclass(frozen=True, slots=True, kw_only=True)
class GenreOptions:
    """The options of `classify`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_OPTIONS

    model_name: Annotated[
        str | None,
        Option("The model's name (default: the server's).", longest=64, flags=("--model", "-m")),
    ] = None
    top_k: Annotated[
        int,
        Option("Genres in `predictions`, best first.", least=1, most=1000, flags=("--top-k", "-k")),
    ] = 3


@dataclass(frozen=True, slots=True)
class GenreScore:
    """One genre and its probability."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    genre: str
    probability: Probability
    confidence: Percent
    """The probability in percent."""
    raw_score: float
    """The model's output before its activation, averaged over windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenreAnswer:
    """The answer of `POST /predict`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    primary_genre: str
    probability: Probability
    """Of the primary genre."""
    confidence: Percent
    """The probability in percent."""
    predictions: tuple[GenreScore, ...]
    """The `top_k` most likely genres, best first."""
    all_scores: dict[str, float]
    """Every genre's probability (0 to 1)."""
    instruments_detected: tuple[str, ...] = ()
    """Empty: no instrument model takes part."""
    has_acoustic: bool | None = None
    has_electronic: bool | None = None
    method: str
    """The model, or `ensemble`."""
    members: tuple[Member, ...]
    audio: AudioMetadata
    timings_ms: dict[str, float]
    """Milliseconds of each stage."""


CLASSIFY = Operation(
    name="classify",
    path="/predict",
    triton_model="classify_genre",
    command="classify",
    options=GenreOptions,
    answer=GenreAnswer,
    summary="Name the genre of a recording.",
)
