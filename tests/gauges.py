"""Reading a gateway's gauges, and waiting for a value."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import httpx

PATIENCE_SECONDS = 120.0
"""Reached only by what never comes."""
_LOOK_SECONDS = 0.02


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if await check():
                return
            await asyncio.sleep(_LOOK_SECONDS)


async def gauge(client: httpx.AsyncClient, name: str) -> float:
    """Return the value of a metric, its labels in its name; 0 before it was ever set."""
    text = (await client.get("/metrics")).text
    found = re.search(rf"^bandstand_{re.escape(name)} (\S+)", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def until_inside(client: httpx.AsyncClient, *, worked_on: int, waiting: int = 0) -> None:
    """Wait until the gateway works on exactly so many requests, and so many wait for a turn."""

    async def check() -> bool:
        return (worked_on, waiting) == (
            await gauge(client, "requests_in_flight"),
            await gauge(client, "requests_queued"),
        )

    await eventually(check)


async def until_ready(client: httpx.AsyncClient, status: int = 200) -> None:
    """Wait until the gateway answers so to the question whether it is ready."""

    async def check() -> bool:
        return (await client.get("/readyz")).status_code == status

    await eventually(check)
