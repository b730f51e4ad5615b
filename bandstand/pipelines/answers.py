"""What Bandstand answers: the shapes behind the HTTP surface, the command line and batch runs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bandstand.models.card import Quality, Sound


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class AudioFacts(_Answer):
    """What the answer is about."""

    duration_seconds: float
    """Length of the decoded recording."""
    sha256: str
    """Digest of the encoded bytes that were sent."""
    sample_rate: int
    """Rate of the recording before resampling, in Hz."""
    truncated: bool
    """The recording broke off before its own header said it would; what there is was used."""


class GenreScore(_Answer):
    """One genre and how sure the model is of it."""

    genre: str
    confidence: float = Field(ge=0, le=100)
    """Percent."""
    raw_score: float
    """What the model itself said, averaged over windows, before its activation."""


class Member(_Answer):
    """One model's part in the answer."""

    model: str
    version: int | None
    weight: float = Field(ge=0, le=1)
    """Its share of the vote; 0 when it did not vote."""
    reason: str | None = None
    """Why it did not vote."""


class GenreAnswer(_Answer):
    """The answer of `POST /predict`."""

    primary_genre: str
    confidence: float = Field(ge=0, le=100)
    """Percent, of the primary genre."""
    predictions: tuple[GenreScore, ...]
    """The `top_k` most likely genres, best first."""
    all_scores: dict[str, float]
    """Every genre's probability (0 to 1)."""
    instruments_detected: tuple[str, ...] = ()
    """Empty while no instrument model takes part."""
    has_acoustic: bool | None = None
    has_electronic: bool | None = None
    method: str
    """The model, or `ensemble`."""
    members: tuple[Member, ...]
    audio: AudioFacts
    timings_ms: dict[str, float]
    """Where the time went, by stage."""


class InstrumentScore(_Answer):
    """One instrument and how sure the model is that it plays."""

    instrument: str
    """As people call it."""
    label: str
    """As the model calls it."""
    confidence: float = Field(ge=0, le=100)
    """Percent; each instrument has a probability of its own."""
    raw_score: float
    """What the model itself said, averaged over windows, before its activation."""
    sound: Sound
    """What makes it: a body that vibrates, electricity, or one or the other."""


class InstrumentsAnswer(_Answer):
    """The answer of `POST /detect/instruments`."""

    instruments: tuple[InstrumentScore, ...]
    """Those at or above the threshold, most certain first."""
    primary: str | None
    """The most certain of them."""
    has_acoustic: bool
    """One of them sounds without electricity."""
    has_electronic: bool
    """One of them needs it."""
    threshold: float = Field(ge=0, le=1)
    """Probability from which an instrument was listed."""
    all_scores: dict[str, float]
    """Every instrument's probability (0 to 1)."""
    method: str
    """The model."""
    members: tuple[Member, ...]
    audio: AudioFacts
    timings_ms: dict[str, float]
    """Where the time went, by stage."""


class FeatureWindow(_Answer):
    """The features of one stretch of the recording."""

    start_seconds: float
    duration_seconds: float
    features: dict[str, float]


class FeaturesAnswer(_Answer):
    """The answer of `POST /analyze/features`."""

    tempo_bpm: float
    features: dict[str, float]
    """Of the whole recording, pooled over its windows."""
    windows: tuple[FeatureWindow, ...]
    audio: AudioFacts
    timings_ms: dict[str, float]


class ModelSummary(_Answer):
    """One model as `GET /models` lists it."""

    name: str
    task: str
    architecture: str
    description: str
    status: Literal["ready", "installed", "not_installed", "broken"]
    """`ready`: this server answers with it. `not_installed`: see `install`. `broken`: see
    `reason`."""
    version: int | None
    """The version served, or that would be."""
    versions: tuple[int, ...]
    runtime: str | None = None
    """What runs it, with its precision; only when ready."""
    labels: tuple[str, ...]
    licence: str
    trained_on: str
    quality: tuple[Quality, ...]
    install: str | None = None
    """The command that installs it; only when it is not."""
    reason: str | None = None
    """What is wrong with the version that would be served; only when it is broken."""


class ModelsAnswer(_Answer):
    """The answer of `GET /models`."""

    models: tuple[ModelSummary, ...]


class HealthAnswer(_Answer):
    """The answer of `GET /health`, `/livez` and `/readyz`."""

    status: Literal["ok", "starting", "draining", "degraded"]
    version: str
    checks: dict[str, str] = {}
    """Each part, and `ok` or what is wrong with it."""


class ErrorAnswer(_Answer):
    """Every refusal looks like this."""

    error: str
    """For people."""
    error_type: str
    """For programs: a stable name."""
    request_id: str | None = None
