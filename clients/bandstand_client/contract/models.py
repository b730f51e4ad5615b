"""A server's answers about its models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from bandstand_client.contract.declaration import SCHEMA_OF_ANSWERS


@dataclass(frozen=True, slots=True)
class Quality:
    """One measurement of a model's quality, and its protocol."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS | {"extra": "forbid"}

    protocol: str
    accuracy: float
    weighted_f1: float
    examples: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """One model as `GET /models` lists it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    name: str
    task: str
    architecture: str
    description: str
    status: Literal["ready", "installed", "not_installed", "broken"]
    """`ready`: this server serves it. `not_installed`: see `install`. `broken`: see `reason`."""
    version: int | None
    """The version that is served, or would be."""
    versions: tuple[int, ...]
    runtime: str | None = None
    """Its runtime and precision; only if ready."""
    labels: tuple[str, ...]
    licence: str
    trained_on: str
    quality: tuple[Quality, ...] = ()
    install: str | None = None
    """The command that installs it; only if it is not installed."""
    reason: str | None = None
    """The error of the version that would be served; only if it is broken."""


@dataclass(frozen=True, slots=True)
class ModelList:
    """The answer of `GET /models`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    models: tuple[ModelSummary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetrics:
    """The answer of `GET /models/{name}/metrics`: a model's quality, and its export's proof."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    name: str
    version: int | None
    quality: tuple[Quality, ...]
    report: dict[str, Any] | None = None
    """The proof of its export; only if it is installed."""


@dataclass(frozen=True, slots=True)
class IndexedModel:
    """One version of a model in Triton's index; `state` is `READY` if it is loaded."""

    name: str
    version: int | None
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelIndex:
    """The models in the repository of a Triton server."""

    models: tuple[IndexedModel, ...]
