"""The body of a request while it is received: its size, its memory, its rate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import Message, Receive

from bandstand.errors import OverloadedError, PayloadTooLargeError, RequestTimeoutError
from bandstand.fair_shares import FairShares, Groups
from bandstand.settings import Settings
from bandstand.telemetry import BODY_BYTES

STEP_BYTES = 1024 * 1024
"""What a body or download of unknown length takes at a time."""
_RETRY_AFTER_SECONDS = 1.0
_LONGEST_TICK_SECONDS = 1.0


class BodyBytes:
    """The bytes of memory that one request's body, or what it names, may take."""

    def __init__(self, shares: FairShares, groups: Groups) -> None:
        self._shares = shares
        self._groups = groups
        self.held = 0

    async def wait_for(self, amount: int) -> None:
        """Wait until `amount` bytes are free; call it before anything is held.

        A small amount does not wait behind large ones for which there is no room yet.
        """
        if 0 < amount <= STEP_BYTES and self._shares.take_now(amount, self._groups):
            self._add(amount)
        elif amount:
            self._add(await self._shares.take(amount, self._groups))

    def grow_to(self, amount: int) -> None:
        """Hold at least `amount` bytes from now on, in steps of a MiB.

        It does not wait: requests that hold a part and wait for the rest would wait for each other.

        Raises:
            OverloadedError: not so many are free, or the client has its share.
        """
        if amount <= self.held:
            return
        steps = -(-amount // STEP_BYTES)
        more = self._shares.most(steps * STEP_BYTES, self._groups) - self.held
        if more <= 0:
            return
        if not self._shares.take_now(more, self._groups):
            raise OverloadedError(
                "the bodies of other requests take all memory for bodies",
                retry_after=_RETRY_AFTER_SECONDS,
            )
        self._add(more)

    def shrink_to(self, amount: int) -> None:
        """Hold at most `amount` bytes from now on."""
        if amount < self.held:
            BODY_BYTES.dec(self.held - amount)
            self._shares.give_back(self.held - amount, self._groups)
            self.held = amount

    def _add(self, amount: int) -> None:
        self.held += amount
        BODY_BYTES.inc(amount)


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The limits of one body; see the settings of these names."""

    max_bytes: int
    silence_seconds: float
    bytes_per_second: int

    @classmethod
    def from_settings(cls, settings: Settings) -> BodyLimits:
        """Return the limits of the settings."""
        return cls(
            max_bytes=settings.max_upload_bytes,
            silence_seconds=settings.body_silence_seconds,
            bytes_per_second=settings.min_body_bytes_per_second,
        )


class RequestBody:
    """Receives one request's body.

    Args:
        receive: of the server.
        stated: the length that the client announced; None: none.
        limits: what it may be.
        memory: the bytes that it holds; they are taken before anything is read.
    """

    def __init__(
        self, receive: Receive, stated: int | None, limits: BodyLimits, memory: BodyBytes
    ) -> None:
        self._receive = receive
        self._stated = stated
        self._limits = limits
        self._memory = memory
        self._may_have = -1  # bytes; -1: nothing was taken yet
        self._is_waiting = False
        self._is_complete = False
        self.received_bytes = 0

    async def receive(self) -> Message:
        """Return the next message, see ASGI.

        Raises:
            PayloadTooLargeError: it is larger than the limit.
            OverloadedError: it states no length, and there is no memory for the next part.
        """
        if self._may_have < 0:
            await self._memory.wait_for(self._stated or 0)
            self._may_have = self._stated or 0
        self._is_waiting = True
        message = await self._receive()
        self._is_waiting = False
        self.received_bytes += len(message.get("body", b""))
        if self.received_bytes > self._may_have:
            self._take_more()
        if not message.get("more_body"):
            self._is_complete = True
        return message

    def _take_more(self) -> None:
        if self.received_bytes > self._limits.max_bytes:
            raise too_large(self._limits.max_bytes)
        self._memory.grow_to(self.received_bytes)
        self._may_have = min(self._memory.held, self._limits.max_bytes)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Watch the body's rate for as long as the block runs.

        Only time in which the server waits for the client counts.

        Raises:
            RequestTimeoutError: the client was too slow.
        """
        if self._stated == 0:
            yield
            return
        rate = _Rate(self, self._limits)
        try:
            async with asyncio.timeout(None) as patience:
                rate.start(patience)
                yield
        except TimeoutError:
            if not patience.expired():
                raise
            raise RequestTimeoutError(rate.reason) from None
        finally:
            rate.stop()

    @property
    def is_waiting(self) -> bool:
        """Whether the server waits for the client."""
        return self._is_waiting

    @property
    def is_complete(self) -> bool:
        """Whether everything was received, or the client has left."""
        return self._is_complete


class _Rate:
    """Looks regularly how much of a body has come, and ends a wait for one that is too slow."""

    def __init__(self, body: RequestBody, limits: BodyLimits) -> None:
        self._body = body
        self._limits = limits
        self._tick_seconds = min(_LONGEST_TICK_SECONDS, limits.silence_seconds / 4)
        self._seconds = self._silent_seconds = 0.0
        self._seen_bytes = 0
        self.reason = ""

    def start(self, patience: asyncio.Timeout) -> None:
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._timer = self._loop.call_later(self._tick_seconds, self._tick)

    def stop(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        if self._body.is_complete:
            return
        if self._body.is_waiting:
            self._seconds += self._tick_seconds
            self._silent_seconds += self._tick_seconds
        if self._body.received_bytes > self._seen_bytes:
            self._seen_bytes, self._silent_seconds = self._body.received_bytes, 0.0
        if self._is_too_slow():
            self._patience.reschedule(self._loop.time())
        else:
            self._timer = self._loop.call_later(self._tick_seconds, self._tick)

    def _is_too_slow(self) -> bool:
        silence, least = self._limits.silence_seconds, self._limits.bytes_per_second
        if self._silent_seconds >= silence:
            self.reason = f"no byte of the body came for {silence:g} s"
        elif self._seconds > silence and self._seen_bytes < least * self._seconds:
            self.reason = f"the body came with less than {least} bytes a second"
        return bool(self.reason)


def too_large(limit: int) -> PayloadTooLargeError:
    """Return the refusal of a body above the limit."""
    return PayloadTooLargeError(f"the request body is larger than {limit} bytes")
