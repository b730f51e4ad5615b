"""What a load test needs of a server, whatever protocol it speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said about one recording.

    Attributes:
        primary: the label it puts first.
        scores: every label's score, 0 to 1.
        timings_ms: where it says the time went; empty where it does not say.
        version: of the model that answered; None where it does not say.
    """

    primary: str
    scores: Mapping[str, float]
    timings_ms: Mapping[str, float]
    version: int | None = None

    @property
    def from_cache(self) -> bool:
        """Whether the recording was not even decoded: it had been answered before."""
        return self.timings_ms.get("decode") == 0.0


class RequestFailedError(Exception):
    """A request without a usable answer; its cause is the client's own error.

    Attributes:
        error_type: the stable name of what went wrong.
    """

    def __init__(self, message: str, error_type: str) -> None:
        super().__init__(message)
        self.error_type = error_type


@dataclass(frozen=True, slots=True)
class Counters:
    """What a server has counted since it started.

    Attributes:
        batches: batches run, by their number of rows ("1", "3-4", …), in ascending order.
        cache_hits: answers from a cache that do not say so themselves.
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
    """What is under test."""

    address: str
    protocol: str
    version: str
    model: str
    runtime: str


class Target(Protocol):
    """A running server; several calls may be under way at once, and none is ever repeated."""

    async def classify(self, content: bytes) -> Answer:
        """Name the genre of one encoded recording.

        Raises:
            RequestFailedError: refused, failed, or not answered in time.
        """
        ...

    async def counters(self) -> Counters:
        """Read what the server has counted so far."""
        ...

    async def describe(self) -> ServerMetadata:
        """Ask the server what it is."""
        ...
