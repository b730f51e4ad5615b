"""What a Bandstand server answers, as plain frozen dataclasses.

Fields that this version does not know are ignored, so that a newer server can add some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What the answer is about: length in seconds, sha256 of the bytes sent, rate in Hz."""

    duration_seconds: float
    sha256: str
    sample_rate: int
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class GenreScore:
    """One genre: confidence in percent, and what the model said before its activation."""

    genre: str
    confidence: float
    raw_score: float


@dataclass(frozen=True, slots=True)
class Member:
    """One model's part in the answer: its share of the vote, or why it did not vote."""

    model: str
    version: int | None
    weight: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class GenreResult:
    """The genre of a recording; `confidence` in percent, `all_scores` from 0 to 1."""

    primary_genre: str
    confidence: float
    predictions: tuple[GenreScore, ...]
    all_scores: dict[str, float]
    method: str
    members: tuple[Member, ...]
    audio: AudioFacts
    timings_ms: dict[str, float]
    instruments_detected: tuple[str, ...] = ()
    has_acoustic: bool | None = None
    has_electronic: bool | None = None


@dataclass(frozen=True, slots=True)
class InstrumentScore:
    """One instrument: confidence in percent; `sound` is `acoustic`, `electronic` or `either`.

    `label` is what the model calls it, `raw_score` what it said before its activation.
    """

    instrument: str
    label: str
    confidence: float
    raw_score: float
    sound: str


@dataclass(frozen=True, slots=True)
class InstrumentsResult:
    """The instruments of a recording at or above `threshold`, most certain first.

    `primary` is the first of them, `all_scores` holds all that the model tells, from 0 to 1.
    """

    instruments: tuple[InstrumentScore, ...]
    primary: str | None
    has_acoustic: bool
    has_electronic: bool
    threshold: float
    all_scores: dict[str, float]
    method: str
    members: tuple[Member, ...]
    audio: AudioFacts
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class FeatureWindow:
    """The features of one stretch of the recording, both bounds in seconds."""

    start_seconds: float
    duration_seconds: float
    features: dict[str, float]


@dataclass(frozen=True, slots=True)
class FeaturesResult:
    """The audio features of a recording, by name, whole and by window."""

    tempo_bpm: float
    features: dict[str, float]
    windows: tuple[FeatureWindow, ...]
    audio: AudioFacts
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Quality:
    """One measurement of how good a model is, and the protocol it was made with."""

    protocol: str
    accuracy: float
    weighted_f1: float
    examples: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """One model the server knows.

    Its `status` is `ready`, `installed`, `not_installed`, or `broken`; `reason` says why.
    """

    name: str
    task: str
    architecture: str
    description: str
    status: str
    version: int | None
    versions: tuple[int, ...]
    labels: tuple[str, ...]
    licence: str
    trained_on: str
    quality: tuple[Quality, ...] = ()
    runtime: str | None = None
    install: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ModelList:
    """Every model the server knows."""

    models: tuple[ModelSummary, ...]


@dataclass(frozen=True, slots=True)
class IndexedModel:
    """One version of a model as Triton's index lists it; `state` is `READY` where it answers."""

    name: str
    version: int | None
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelIndex:
    """What lies in the repository of a Triton server."""

    models: tuple[IndexedModel, ...]


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """A model's measured quality, and the report that proves its export, when it is installed."""

    name: str
    version: int | None
    quality: tuple[Quality, ...]
    report: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """How the server is; `checks` holds each part, and `ok` or what is wrong with it."""

    status: str
    version: str
    checks: dict[str, str] = field(default_factory=dict)


def read(kind: type[T], content: object) -> T:
    """Turn parsed JSON into a value of `kind`.

    Args:
        kind: one of the dataclasses above.
        content: what `json.loads` returned.

    Raises:
        ValueError: the content has another shape; the message names the field.
    """
    return cast(T, _read(kind, content, "answer"))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, content: object, where: str) -> object:
    if get_origin(kind) in (Union, UnionType):  # always `X | None`
        if content is None:
            return None
        kind = next(choice for choice in get_args(kind) if choice is not NoneType)
    if isinstance(content, Mapping) and (is_dataclass(kind) or get_origin(kind) is dict):
        return _read_mapping(kind, content, where)
    if isinstance(content, list) and get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return tuple(_read(item, entry, f"{where}[{i}]") for i, entry in enumerate(content))
    if kind is float and type(content) is int:
        return float(content)
    if kind is Any or type(content) is kind:
        return content
    raise ValueError(f"{where}: {type(content).__name__} where {kind} belongs")


def _read_mapping(kind: Any, content: Mapping[str, object], where: str) -> object:
    if not is_dataclass(kind):
        item = get_args(kind)[1]
        return {key: _read(item, entry, f"{where}.{key}") for key, entry in content.items()}
    values = {}
    for entry in fields(kind):
        if entry.name in content:
            inner = _hints(cast(type, kind))[entry.name]
            values[entry.name] = _read(inner, content[entry.name], f"{where}.{entry.name}")
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise ValueError(f"{where}.{entry.name} is missing")
    return cast(type, kind)(**values)
