"""How many requests are worked on, how many may wait, and what happens to the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from bandstand.errors import OverloadedError
from bandstand.telemetry import IN_FLIGHT, QUEUED, stage

_RETRY_AFTER_SECONDS = 1.0


class Admission:
    """Bounds the work: refuses a request with 429 before its body is read when the queue is full.

    Args:
        max_in_flight: requests worked on at the same time.
        max_queued: requests that may wait for their turn.
    """

    def __init__(self, max_in_flight: int, max_queued: int) -> None:
        self._capacity = max_in_flight + max_queued
        self._inside = 0
        self._max_in_flight = max_in_flight
        self._taking = asyncio.Lock()
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
    async def turn(self, turns: int = 1) -> AsyncIterator[None]:
        """Wait until a request may be worked on.

        Args:
            turns: how many requests it counts for; above `max_in_flight`, for all of them.
        """
        taken = 0
        QUEUED.inc()
        try:
            with stage("queue"):
                async with self._taking:  # first come, first served, whatever each takes
                    while taken < min(turns, self._max_in_flight):
                        await self._turns.acquire()
                        taken += 1
            IN_FLIGHT.inc()
        except BaseException:
            self._give_back(taken)
            raise
        finally:
            QUEUED.dec()
        try:
            yield
        finally:
            IN_FLIGHT.dec()
            self._give_back(taken)

    def _give_back(self, taken: int) -> None:
        for _ in range(taken):
            self._turns.release()
