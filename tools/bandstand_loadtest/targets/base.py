"""The interface of a server for a load test, for any protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer for one recording.

    Attributes:
        primary: the label with the highest score.
        scores: every label's score, 0 to 1.
        timings_ms: the time of each stage; empty if the server does not send it.
        version: of the model; None if the server does not send it.
    """

    primary: str
    scores: Mapping[str, float]
    timings_ms: Mapping[str, float]
    version: int | None = None

    @property
    def from_cache(self) -> bool:
        """Whether the features came from the cache, so that the recording was not decoded."""
        return self.timings_ms.get("decode") == 0.0


class RequestFailedError(Exception):
    """A request without a usable answer; its cause is the client's own error.

    Attributes:
        error_type: the stable name of the error.
    """

    def __init__(self, message: str, error_type: str) -> None:
        super().__init__(message)
        self.error_type = error_type


@dataclass(frozen=True, slots=True)
class Counters:
    """What a server has counted since it started.

    Attributes:
        batches: batches run, by their number of rows ("1", "3-4", …), in ascending order.
        cache_hits: answers from a cache, if the answers do not show it.
    """

    batches: Mapping[str, int] = field(default_factory=dict)
    cache_hits: int = 0

    def since(self, before: Counters) -> Counters:
        """Return what was counted after `before`."""
        return Counters(
            {size: count - before.batches.get(size, 0) for size, count in self.batches.items()},
            self.cache_hits - before.cache_hits,
        )


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """Metadata of the server under test."""

    address: str
    protocol: str
    version: str
    model: str
    runtime: str


class Target(Protocol):
    """A running server; several calls can be in flight, and none is repeated."""

    async def classify(self, content: bytes) -> Answer:
        """Name the genre of one encoded recording.

        Raises:
            RequestFailedError: refused, failed, or not answered in time.
        """
        ...

    async def counters(self) -> Counters:
        """Return the server's counters."""
        ...

    async def describe(self) -> ServerMetadata:
        """Return the server's metadata."""
        ...
