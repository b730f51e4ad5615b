"""The HTTP clients: `Bandstand`, and `AsyncBandstand` for many calls at once.

    with Bandstand("http://127.0.0.1:3000") as bandstand:
        print(bandstand.classify("song.mp3").primary_genre)

Every operation of `bandstand_client.contract.operations` is a method of both. Audio is sent as a
raw body, which is cheapest for the server. Every method raises the errors of
`bandstand_client.errors`, and `OSError` if a file cannot be read.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import ClassVar, TypeVar

import httpx

from bandstand_client import calls
from bandstand_client.calls import Call, Reply
from bandstand_client.contract.declaration import Audio, Operation
from bandstand_client.contract.operations import Operations
from bandstand_client.contract.shared import Health
from bandstand_client.endpoint import Endpoint
from bandstand_client.errors import BandstandClientError
from bandstand_client.policy import Attempts, RetryPolicy, Timeouts
from bandstand_client.transport import (
    client_options,
    new_request_id,
    request_options,
    transport_errors,
)

DEFAULT_URL = "http://127.0.0.1:3000"

T = TypeVar("T")

_DEFAULT_TIMEOUTS = Timeouts()
_UNTIL_READY = RetryPolicy(retries=sys.maxsize, first_pause=0.1, longest_pause=1.0)


class ModelsAndHealth:
    """The calls of both clients beside the operations on audio."""

    models = Endpoint(calls.models)
    model_metrics = Endpoint(calls.model_metrics)
    load_model = Endpoint(calls.load_model)
    unload_model = Endpoint(calls.unload_model)
    health = Endpoint(calls.health)


class Bandstand(Operations, ModelsAndHealth):
    """A connection to a Bandstand server; a context manager. Safe to share between threads.

    Args:
        base_url: address of the server.
        timeout: seconds for a whole call, or `Timeouts` for its parts.
        retries: tries after the first, if another try is safe (`RetryPolicy`).
        api_key: sent as a bearer token; it appears in no repr and no log.
        transport: an httpx transport to use instead of the network.

    Raises:
        ValueError: no usable address, key, timeout or number of retries.
    """

    is_async: ClassVar[bool] = False

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        timeout: Timeouts | float = _DEFAULT_TIMEOUTS,
        retries: int = 2,
        api_key: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._timeouts = Timeouts.of(timeout)
        self._policy = RetryPolicy(retries=retries)
        self._http = httpx.Client(**client_options(base_url, api_key), transport=transport)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._http.base_url!r})"

    def __enter__(self) -> Bandstand:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def answer(
        self, operation: Operation[..., T], audio: Audio, options: Mapping[str, object]
    ) -> T:
        """Call one operation; `client.classify(audio)` is the shorter form."""
        return self.call(calls.ask(operation, calls.content_of(audio), options))

    def wait_ready(self, timeout: float = 60.0) -> Health:
        """Return once the server is ready.

        Args:
            timeout: seconds to wait at most; the server need not listen yet.

        Raises:
            UnavailableError: the server is not ready after that time; the message has the reason.
            DeadlineError: the server accepts connections, but does not answer.
        """
        timeouts = replace(self._timeouts, total=timeout)
        return self.call(calls.readiness(), _UNTIL_READY, timeouts)

    def call(
        self, call: Call[T], policy: RetryPolicy | None = None, timeouts: Timeouts | None = None
    ) -> T:
        """Make one call, with its tries; `policy` and `timeouts` instead of the client's own."""
        attempts = Attempts(policy or self._policy, timeouts or self._timeouts)
        request_id = new_request_id()
        while True:
            try:
                return call.interpret(self._exchange(call, attempts, request_id))
            except BandstandClientError as error:
                pause = attempts.pause_before_next(error)
            time.sleep(pause)

    def _exchange(self, call: Call[T], attempts: Attempts, request_id: str) -> Reply:
        left = attempts.remaining()
        options = request_options(call, request_id, self._timeouts, left)
        request = self._http.build_request(**options)
        with transport_errors(request_id, answer_began=False):
            response = self._http.send(request, stream=True)
        body = bytearray()
        with closing(response), transport_errors(request_id, answer_began=True):
            for chunk in response.iter_bytes():
                body += chunk
                attempts.remaining()  # also stops a server that sends slowly
        return _reply(response, bytes(body))


class AsyncBandstand(Operations, ModelsAndHealth):
    """The asyncio client, with `classify.many` for each operation; an async context manager.

    Its arguments are those of `Bandstand`.
    """

    is_async: ClassVar[bool] = True

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        timeout: Timeouts | float = _DEFAULT_TIMEOUTS,
        retries: int = 2,
        api_key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeouts = Timeouts.of(timeout)
        self._policy = RetryPolicy(retries=retries)
        self._http = httpx.AsyncClient(**client_options(base_url, api_key), transport=transport)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._http.base_url!r})"

    async def __aenter__(self) -> AsyncBandstand:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def answer(
        self, operation: Operation[..., T], audio: Audio, options: Mapping[str, object]
    ) -> T:
        """Call one operation; `await client.classify(audio)` is the shorter form."""
        content = await asyncio.to_thread(calls.content_of, audio)
        return await self.call(calls.ask(operation, content, options))

    async def wait_ready(self, timeout: float = 60.0) -> Health:  # noqa: ASYNC109
        """Return once the server is ready; see `Bandstand.wait_ready`."""
        timeouts = replace(self._timeouts, total=timeout)
        return await self.call(calls.readiness(), _UNTIL_READY, timeouts)

    async def call(
        self, call: Call[T], policy: RetryPolicy | None = None, timeouts: Timeouts | None = None
    ) -> T:
        """Make one call, with its tries; see `Bandstand.call`."""
        attempts = Attempts(policy or self._policy, timeouts or self._timeouts)
        request_id = new_request_id()
        while True:
            try:
                return call.interpret(await self._exchange(call, attempts, request_id))
            except BandstandClientError as error:
                pause = attempts.pause_before_next(error)
            await asyncio.sleep(pause)

    async def _exchange(self, call: Call[T], attempts: Attempts, request_id: str) -> Reply:
        left = attempts.remaining()
        options = request_options(call, request_id, self._timeouts, left)
        request = self._http.build_request(**options)
        try:
            async with asyncio.timeout(left):
                with transport_errors(request_id, answer_began=False):
                    response = await self._http.send(request, stream=True)
                try:
                    with transport_errors(request_id, answer_began=True):
                        body = await response.aread()
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise attempts.out_of_time() from error
        return _reply(response, body)


def _reply(response: httpx.Response, body: bytes) -> Reply:
    return Reply(response.status_code, response.reason_phrase, response.headers, body)
