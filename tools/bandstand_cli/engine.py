"""Who answers a command: this process, or a server; the commands cannot tell which."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bandstand_cli.keys import api_key
from bandstand_client.contract.declaration import AnswersAsync
from bandstand_client.http import AsyncBandstand


@asynccontextmanager
async def open_engine(server: str | None) -> AsyncIterator[AnswersAsync]:
    """Yield what answers operations: this process, or the server at that URL."""
    if server is None:
        from bandstand.operations.local import LocalBandstand  # asking a server takes no runtime

        async with LocalBandstand() as here:
            yield here
    else:
        async with AsyncBandstand(server, api_key=api_key()) as client:
            yield client
