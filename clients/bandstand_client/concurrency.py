"""Many concurrent calls, with a limit; results are yielded as they finish."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from contextlib import aclosing
from typing import TypeVar

from bandstand_client.errors import BandstandClientError

Item = TypeVar("Item")
Result = TypeVar("Result")


async def as_they_finish(
    function: Callable[[Item], Awaitable[Result]],
    items: Iterable[Item] | AsyncIterable[Item],
    concurrency: int,
) -> AsyncGenerator[tuple[Item, asyncio.Task[Result]], None]:
    """Yield every item with its finished task, keeping `concurrency` calls in flight.

    `items` is read only as fast as calls finish and results are consumed, so it can be infinite.
    Leaving the loop early (or cancelling it) cancels the calls in flight.

    Raises:
        ValueError: `concurrency` is below one.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1: {concurrency}")

    async def call(item: Item) -> Result:
        return await function(item)

    waiting = _each(items)
    in_flight: dict[asyncio.Task[Result], Item] = {}
    exhausted = False
    try:
        while True:
            while not exhausted and len(in_flight) < concurrency:
                try:
                    item = await anext(waiting)
                except StopAsyncIteration:
                    exhausted = True
                else:
                    in_flight[asyncio.create_task(call(item))] = item
            if not in_flight:
                return
            done, _ = await asyncio.wait(in_flight, return_when=asyncio.FIRST_COMPLETED)
            task = done.pop()
            yield in_flight.pop(task), task
    finally:
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)


async def outcomes(
    function: Callable[[Item], Awaitable[Result]],
    items: Iterable[Item] | AsyncIterable[Item],
    concurrency: int,
) -> AsyncGenerator[tuple[Item, Result | BandstandClientError | OSError], None]:
    """Yield every item with its result or its own error.

    Otherwise as `as_they_finish`.
    """
    async with aclosing(as_they_finish(function, items, concurrency)) as finished:
        async for item, task in finished:
            outcome: Result | BandstandClientError | OSError
            try:
                outcome = task.result()
            except (BandstandClientError, OSError) as error:
                outcome = error
            yield item, outcome


async def _each(items: Iterable[Item] | AsyncIterable[Item]) -> AsyncIterator[Item]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
