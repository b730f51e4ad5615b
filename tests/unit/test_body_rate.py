"""The rate of a body: what is too slow, and whose time counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from starlette.types import Message

from bandstand.errors import PayloadTooLargeError, RequestTimeoutError
from bandstand.fair_shares import FairShares
from bandstand_bentos.body_bytes import BodyBytes, BodyLimits, RequestBody

SILENCE_SECONDS = 0.2
LIMITS = BodyLimits(max_bytes=10_000_000, silence_seconds=SILENCE_SECONDS, bytes_per_second=1_000)
WHOLE = 20_000_000


def body(
    pieces: AsyncIterator[bytes], *, stated: int | None = None, shares: FairShares | None = None
) -> RequestBody:
    async def receive() -> Message:
        piece = await anext(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    memory = BodyBytes(shares or FairShares(WHOLE, {}), (("client", "a"),))
    return RequestBody(receive, stated, LIMITS, memory)


async def read(one: RequestBody, use: Callable[[], object] = lambda: None) -> int:
    async with one.watched():
        while (await one.receive())["more_body"]:
            use()
    return one.received_bytes


async def every(seconds: float, piece: bytes, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield piece
        await asyncio.sleep(seconds)


async def test_silence_ends_a_body() -> None:
    with pytest.raises(RequestTimeoutError, match=r"no byte of the body came for 0\.2 s"):
        await read(body(every(60, b"half", 2)))


async def test_drops_do_not_keep_a_body_open() -> None:
    with pytest.raises(RequestTimeoutError, match="less than 1000 bytes a second"):
        await read(body(every(SILENCE_SECONDS / 10, b"x", 10_000)))


async def test_a_steady_body_is_read_to_its_end() -> None:
    assert await read(body(every(SILENCE_SECONDS / 10, bytes(1_000), 50))) == 50_000


async def test_the_time_of_the_server_does_not_count() -> None:
    shares = FairShares(1_000, {})
    await shares.take(1_000, ())
    one = body(every(0, bytes(1_000), 1), stated=1_000, shares=FairShares(1_000, {}))
    waits = body(every(0, bytes(1_000), 1), stated=1_000, shares=shares)
    reading = asyncio.create_task(read(waits))
    await asyncio.sleep(4 * SILENCE_SECONDS)
    assert not reading.done(), "it waits for memory, and not for its client"
    shares.give_back(1_000, ())
    assert await reading == await read(one) == 1_000


async def test_what_follows_the_body_is_not_watched() -> None:
    one = body(every(0, b"x", 1))
    async with one.watched():
        while (await one.receive())["more_body"]:
            pass
        await asyncio.sleep(4 * SILENCE_SECONDS)
    assert one.is_complete


async def test_a_timeout_of_the_app_is_its_own() -> None:
    with pytest.raises(TimeoutError):
        async with body(every(0, b"x", 1)).watched(), asyncio.timeout(0):
            await asyncio.sleep(60)


async def test_a_body_without_a_length_is_counted_as_it_comes() -> None:
    shares = FairShares(WHOLE, {})
    one = body(every(0, bytes(1_000_000), 20), shares=shares)
    with pytest.raises(PayloadTooLargeError):
        await read(one)
    assert one.received_bytes == 11_000_000
    assert not shares.take_now(WHOLE - 9_000_000, ())
