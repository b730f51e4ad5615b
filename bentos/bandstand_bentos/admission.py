"""Admission: limits the requests in progress and in the queue, and refuses all others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from bandstand.errors import OverloadedError
from bandstand.telemetry import IN_FLIGHT, QUEUED, stage

_RETRY_AFTER_SECONDS = 1.0


class Admission:
    """Refuses a request with 429, before its body is read, when the queue is full.

    Args:
        max_in_flight: most requests in progress at the same time.
        max_queued: most requests that wait for their turn.
    """

    def __init__(self, max_in_flight: int, max_queued: int) -> None:
        self._capacity = max_in_flight + max_queued
        self._inside = 0
        self._max_in_flight = max_in_flight
        self._taking = asyncio.Lock()
        self._turns = asyncio.Semaphore(max_in_flight)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count a request as received for as long as the block runs.

        Raises:
            OverloadedError: the queue is full.
        """
        if self._inside >= self._capacity:
            raise OverloadedError(
                f"{self._inside} requests are in progress or in the queue",
                retry_after=_RETRY_AFTER_SECONDS,
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @asynccontextmanager
    async def turn(self, turns: int = 1) -> AsyncIterator[None]:
        """Wait until a request may start; hold its turn for as long as the block runs.

        Args:
            turns: the number of requests that it counts as; at most `max_in_flight` are taken.
        """
        taken = 0
        QUEUED.inc()
        try:
            with stage("queue"):
                async with self._taking:  # in order of arrival, also when turns differ
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
