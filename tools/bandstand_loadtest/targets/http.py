"""A Bandstand server over HTTP, as a load test asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from bandstand_client import calls
from bandstand_client.contract.genre import CLASSIFY, GenreAnswer
from bandstand_client.errors import BandstandClientError, DeadlineError, UnavailableError
from bandstand_client.http import AsyncBandstand
from bandstand_client.policy import CONNECTION_CUT, Timeouts
from bandstand_client.transport import client_options
from bandstand_loadtest.targets.answers import answer_of, failed
from bandstand_loadtest.targets.base import Answer, Counters, ServerMetadata, Target
from bandstand_loadtest.targets.prometheus import read_counters

_TIMEOUTS = Timeouts()
# Shorter than any server's: a connection that it closes under a request is no fault of its own.
_IDLE_SECONDS = 2.0
_OK = 200


@asynccontextmanager
async def open_http_target(
    address: str, model: str, api_key: str | None = None
) -> AsyncIterator[Target]:
    """Connect to the Bandstand server at `http(s)://host:port`.

    Raises:
        ValueError: no such address, or a key that no header can carry.
    """
    headers = client_options(address, api_key)["headers"]
    # No limit on connections: how many requests are under way is the scenario's business.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS)
    timeout = aiohttp.ClientTimeout(_TIMEOUTS.total, sock_connect=_TIMEOUTS.connect)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as http:
        yield _HttpTarget(address.rstrip("/"), api_key, model, http)


class _HttpTarget:
    """A Bandstand server, asked as its client asks, but over aiohttp, and never twice.

    The load generator may share its cores with the server, and `AsyncBandstand` costs it 1.7 CPU
    ms a request where this costs 0.35.
    """

    def __init__(
        self, address: str, key: str | None, model: str, http: aiohttp.ClientSession
    ) -> None:
        self._address = address
        self._key = key
        self._model = model
        self._http = http

    async def classify(self, content: bytes) -> Answer:
        call = calls.ask(CLASSIFY, content, {"model_name": self._model})
        try:
            return answer_of(call.interpret(await self._exchange(call)))
        except BandstandClientError as error:
            raise failed(error) from error

    async def _exchange(self, call: calls.Call[GenreAnswer]) -> calls.Reply:
        try:
            async with self._http.request(
                call.method,
                self._address + call.path,
                params=call.params,
                headers=call.headers,
                data=call.content,
            ) as response:
                return calls.Reply(
                    response.status, response.reason or "", response.headers, await response.read()
                )
        except TimeoutError as error:
            raise DeadlineError("no answer in time", error_type="client_timeout") from error
        except aiohttp.ClientConnectorError as error:
            raise UnavailableError(
                f"no connection to the server: {error}", error_type="connection_failed"
            ) from error
        except aiohttp.ClientError as error:
            raise UnavailableError(
                f"the connection broke off: {error}", error_type=CONNECTION_CUT
            ) from error

    async def counters(self) -> Counters:
        async with self._http.get(f"{self._address}/metrics") as response:
            text = await response.text()
        return read_counters(text, self._model) if response.status == _OK else Counters()

    async def describe(self) -> ServerMetadata:
        async with AsyncBandstand(self._address, api_key=self._key) as client:
            health = await client.health()
            listed = await client.models()
        runtimes = {model.name: model.runtime for model in listed.models}
        return ServerMetadata(
            address=self._address,
            protocol="HTTP",
            version=health.version,
            model=self._model,
            runtime=runtimes.get(self._model) or "unknown runtime",
        )
