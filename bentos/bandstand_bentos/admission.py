"""How many requests are worked on, how many may wait, and what happens to the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from bandstand.errors import OverloadedError
from bandstand.telemetry import IN_FLIGHT, QUEUED, stage

_RETRY_AFTER_SECONDS = 1.0


class Admission:
    """Bounds the work at the door: a full house is told so at once, before anything is read.

    Args:
        max_in_flight: requests worked on at the same time.
        max_queued: requests that may wait for their turn.
    """

    def __init__(self, max_in_flight: int, max_queued: int) -> None:
        self._capacity = max_in_flight + max_queued
        self._inside = 0
        self._turns = asyncio.Semaphore(max_in_flight)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Hold a place inside.

        Raises:
            OverloadedError: there is none.
        """
        if self._inside >= self._capacity:
            raise OverloadedError(
                f"{self._inside} requests are already being answered or waiting",
                retry_after=_RETRY_AFTER_SECONDS,
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn to be worked on."""
        QUEUED.inc()
        try:
            with stage("queue"):
                await self._turns.acquire()
        finally:
            QUEUED.dec()
        IN_FLIGHT.inc()
        try:
            yield
        finally:
            IN_FLIGHT.dec()
            self._turns.release()
