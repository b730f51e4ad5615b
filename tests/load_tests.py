"""Clips and plans for tests of the load harness."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bandstand_loadtest.clips import Clip, Reference
from bandstand_loadtest.runs import Bounds
from bandstand_loadtest.scenarios import LoadTest, Plan
from bandstand_loadtest.targets.connect import open_target

SURE_OF_JAZZ = Reference("jazz", {"jazz": 1.0}, seconds=2.0, version=1)


def clips(count: int = 3) -> list[Clip]:
    """Return clips that a server which says jazz answers rightly."""
    return [Clip(f"{i}.wav", f"clip {i}".encode(), SURE_OF_JAZZ) for i in range(count)]


def plan(
    seconds: float = 0.2,
    fewest: int = 5,
    p99_ms: float | None = None,
    late_share: float = 1.0,
    *,
    allow_cache: bool = False,
) -> Plan:
    """Return a plan; how busy the machine of the tests is fails nothing."""
    return Plan(seconds, fewest, 0, Bounds(p99_ms, late_share, allow_cache))


@asynccontextmanager
async def load_test(
    url: str, given: Plan, recordings: list[Clip] | None = None
) -> AsyncIterator[LoadTest]:
    """Yield a load test of the server at `url`."""
    async with open_target(url, "genre_features") as target:
        yield LoadTest(target, recordings or clips(), given)
