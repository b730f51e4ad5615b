"""The parts of answers that several operations share, and the answers about the server itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from bandstand_client.contract.declaration import SCHEMA_OF_ANSWERS, Between

Probability = Annotated[float, Between(0, 1)]
Percent = Annotated[float, Between(0, 100)]


@dataclass(frozen=True, slots=True)
class AudioMetadata:
    """The recording of an answer."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    duration_seconds: float
    """Length of the decoded recording."""
    sha256: str
    """Hash of the encoded bytes."""
    sample_rate: int
    """Rate of the recording before resampling, in Hz."""
    truncated: bool = False
    """The recording is shorter than its header says; the answer is about this part."""


@dataclass(frozen=True, slots=True)
class Member:
    """One model's part in the answer."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    model: str
    version: int | None
    weight: Probability
    """Its weight in the answer; 0 if it took no part."""
    reason: str | None = None
    """Why it took no part."""


@dataclass(frozen=True, slots=True)
class Health:
    """The answer of `GET /health`, `/livez` and `/readyz`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    status: Literal["ok", "starting", "draining", "degraded"]
    version: str
    checks: dict[str, str] = field(default_factory=dict)
    """`ok` or the error of each part."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The JSON of every refusal."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    error: str
    """For people."""
    error_type: str
    """A stable name, for programs."""
    request_id: str | None = None
