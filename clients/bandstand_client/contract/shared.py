"""The parts of answers that several operations share, and the answers about the server itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from bandstand_client.contract.declaration import SCHEMA_OF_ANSWERS, Between

Probability = Annotated[float, Between(0, 1)]
Percent = Annotated[float, Between(0, 100)]


@dataclass(frozen=True, slots=True)
class AudioMetadata:
    """What the answer is about."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    duration_seconds: float
    """Length of the decoded recording."""
    sha256: str
    """Digest of the encoded bytes that were sent."""
    sample_rate: int
    """Rate of the recording before resampling, in Hz."""
    truncated: bool = False
    """The recording broke off before its own header said it would; what there is was used."""


@dataclass(frozen=True, slots=True)
class Member:
    """One model's part in the answer."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    model: str
    version: int | None
    weight: Probability
    """Its share of the vote; 0 when it did not vote."""
    reason: str | None = None
    """Why it did not vote."""


@dataclass(frozen=True, slots=True)
class Health:
    """The answer of `GET /health`, `/livez` and `/readyz`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    status: Literal["ok", "starting", "draining", "degraded"]
    version: str
    checks: dict[str, str] = field(default_factory=dict)
    """Each part, and `ok` or what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Every refusal looks like this."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    error: str
    """For people."""
    error_type: str
    """For programs: a stable name."""
    request_id: str | None = None
