"""The engine of a command: this process or a server, with the same interface."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bandstand_cli.keys import api_key
from bandstand_client.contract.declaration import AnswersAsync
from bandstand_client.http import AsyncBandstand


@asynccontextmanager
async def open_engine(server: str | None) -> AsyncIterator[AnswersAsync]:
    """Yield the engine: this process, or the server at that URL."""
    if server is None:
        from bandstand.local import LocalBandstand  # with a server no runtime is needed

        async with LocalBandstand() as here:
            yield here
    else:
        async with AsyncBandstand(server, api_key=api_key()) as client:
            yield client
