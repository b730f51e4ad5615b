"""The audio features of a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from bandstand_client.contract.declaration import SCHEMA_OF_ANSWERS, NoOptions, Operation
from bandstand_client.contract.shared import AudioMetadata


@dataclass(frozen=True, slots=True)
class FeatureWindow:
    """The features of one window of the recording."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    start_seconds: float
    duration_seconds: float
    features: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesAnswer:
    """The answer of `POST /analyze/features`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    tempo_bpm: float
    features: dict[str, float]
    """Of the whole recording, pooled over its windows."""
    windows: tuple[FeatureWindow, ...]
    audio: AudioMetadata
    timings_ms: dict[str, float]
    """Milliseconds of each stage."""


ANALYZE_FEATURES = Operation(
    name="analyze_features",
    path="/analyze/features",
    triton_model="analyze_features",
    command="features",
    options=NoOptions,
    answer=FeaturesAnswer,
    summary="Compute the audio features of a recording, including the tempo.",
)
