"""The HTTP clients: `Bandstand`, and `AsyncBandstand` for many calls at once.

    with Bandstand("http://127.0.0.1:3000") as bandstand:
        print(bandstand.classify("song.mp3").primary_genre)

Audio is sent as a raw body, which costs the server least. Every method raises the errors of
`bandstand_client.errors`; `OSError` where a file cannot be read.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing, closing
from dataclasses import replace
from types import TracebackType
from typing import TypeVar

import httpx

from bandstand_client import calls
from bandstand_client.calls import Audio, Call, Reply
from bandstand_client.concurrency import outcomes
from bandstand_client.errors import BandstandClientError
from bandstand_client.policy import Attempts, RetryPolicy, Timeouts
from bandstand_client.results import (
    FeaturesResult,
    GenreResult,
    Health,
    InstrumentsResult,
    ModelList,
    ModelMetrics,
    ModelSummary,
)
from bandstand_client.transport import (
    client_options,
    new_request_id,
    request_options,
    transport_errors,
)

DEFAULT_URL = "http://127.0.0.1:3000"

T = TypeVar("T")
A = TypeVar("A", bound=Audio)

_DEFAULT_TIMEOUTS = Timeouts()
_UNTIL_READY = RetryPolicy(retries=sys.maxsize, first_pause=0.1, longest_pause=1.0)


class Bandstand:
    """A connection to a Bandstand server; a context manager. Safe to share between threads.

    Args:
        base_url: where the server is.
        timeout: seconds for a whole call, or `Timeouts` for its parts.
        retries: tries after the first, where a repetition is safe (`RetryPolicy`).
        api_key: sent as a bearer token; it appears in no repr and no log.
        transport: an httpx transport to use instead of the network.

    Raises:
        ValueError: no usable address, key, timeout or number of retries.
    """

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

    def classify(
        self,
        audio: Audio | None = None,
        *,
        url: str | None = None,
        model: str | None = None,
        top_k: int | None = None,
    ) -> GenreResult:
        """Name the genre of `audio`, or of what the server finds at `url`.

        Args:
            audio: encoded bytes, the path of a file, or an open binary file.
            url: where the server shall fetch the audio itself.
            model: the model to ask; None: the server's default.
            top_k: how many genres `predictions` lists; None: the server's default.
        """
        return self._call(calls.classify(calls.content_of(audio, url), model, top_k))

    def detect_instruments(
        self,
        audio: Audio | None = None,
        *,
        url: str | None = None,
        model: str | None = None,
        threshold: float | None = None,
    ) -> InstrumentsResult:
        """Name the instruments of `audio`, or of what the server finds at `url`.

        Args:
            audio: encoded bytes, the path of a file, or an open binary file.
            url: where the server shall fetch the audio itself.
            model: the model to ask; None: the best that the server has.
            threshold: least probability (0 to 1) of what is listed; None: the server's default.
        """
        return self._call(calls.instruments(calls.content_of(audio, url), model, threshold))

    def features(self, audio: Audio | None = None, *, url: str | None = None) -> FeaturesResult:
        """Compute the audio features of `audio`, or of what the server finds at `url`."""
        return self._call(calls.features(calls.content_of(audio, url)))

    def models(self) -> ModelList:
        """List every model the server knows, installed or not."""
        return self._call(calls.models())

    def model_metrics(self, name: str) -> ModelMetrics:
        """Return one model's measured quality and its export report."""
        return self._call(calls.model_metrics(name))

    def load_model(self, name: str, version: int | None = None) -> ModelSummary:
        """Have a version of a model served from now on (None: the newest); nothing is lost.

        Takes the administrator's key.
        """
        return self._call(calls.load_model(name, version))

    def unload_model(self, name: str) -> ModelSummary:
        """Have a model served no more; returns when what was begun with it is answered."""
        return self._call(calls.unload_model(name))

    def health(self) -> Health:
        """Return how the server is; one that is starting or draining answers too."""
        return self._call(calls.health())

    def wait_ready(self, timeout: float = 60.0) -> Health:
        """Return once the server is ready.

        Args:
            timeout: seconds to wait at most, for a server that does not listen yet too.

        Raises:
            UnavailableError: not ready by then; the message says what is missing.
            DeadlineError: it accepts connections and answers none of them.
        """
        timeouts = replace(self._timeouts, total=timeout)
        return self._call(calls.readiness(), _UNTIL_READY, timeouts)

    def _call(
        self, call: Call[T], policy: RetryPolicy | None = None, timeouts: Timeouts | None = None
    ) -> T:
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
                attempts.remaining()  # a server that drips is cut off
        return _reply(response, bytes(body))


class AsyncBandstand:
    """The same for asyncio, with `classify_many` and its like; an async context manager.

    Its arguments are those of `Bandstand`.
    """

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

    async def classify(
        self,
        audio: Audio | None = None,
        *,
        url: str | None = None,
        model: str | None = None,
        top_k: int | None = None,
    ) -> GenreResult:
        """Name the genre of a recording; see `Bandstand.classify`."""
        content = await asyncio.to_thread(calls.content_of, audio, url)
        return await self._call(calls.classify(content, model, top_k))

    async def classify_many(
        self,
        audios: Iterable[A] | AsyncIterable[A],
        concurrency: int = 8,
        *,
        model: str | None = None,
        top_k: int | None = None,
    ) -> AsyncGenerator[tuple[A, GenreResult | BandstandClientError | OSError], None]:
        """Name the genre of many recordings, yielding each with its result or its error.

        They come in the order they finish, `concurrency` of them in flight; `audios` is read as
        they do, and may be endless. Leaving the loop cancels what is in flight.
        """

        async def one(audio: A) -> GenreResult:
            return await self.classify(audio, model=model, top_k=top_k)

        async with aclosing(outcomes(one, audios, concurrency)) as finished:
            async for audio, outcome in finished:
                yield audio, outcome

    async def detect_instruments(
        self,
        audio: Audio | None = None,
        *,
        url: str | None = None,
        model: str | None = None,
        threshold: float | None = None,
    ) -> InstrumentsResult:
        """Name the instruments of a recording; see `Bandstand.detect_instruments`."""
        content = await asyncio.to_thread(calls.content_of, audio, url)
        return await self._call(calls.instruments(content, model, threshold))

    async def detect_instruments_many(
        self,
        audios: Iterable[A] | AsyncIterable[A],
        concurrency: int = 8,
        *,
        model: str | None = None,
        threshold: float | None = None,
    ) -> AsyncGenerator[tuple[A, InstrumentsResult | BandstandClientError | OSError], None]:
        """Name the instruments of many recordings; see `classify_many`."""

        async def one(audio: A) -> InstrumentsResult:
            return await self.detect_instruments(audio, model=model, threshold=threshold)

        async with aclosing(outcomes(one, audios, concurrency)) as finished:
            async for audio, outcome in finished:
                yield audio, outcome

    async def features(
        self, audio: Audio | None = None, *, url: str | None = None
    ) -> FeaturesResult:
        """Compute the audio features of a recording; see `Bandstand.features`."""
        return await self._call(
            calls.features(await asyncio.to_thread(calls.content_of, audio, url))
        )

    async def models(self) -> ModelList:
        """List every model the server knows, installed or not."""
        return await self._call(calls.models())

    async def model_metrics(self, name: str) -> ModelMetrics:
        """Return one model's measured quality and its export report."""
        return await self._call(calls.model_metrics(name))

    async def load_model(self, name: str, version: int | None = None) -> ModelSummary:
        """Have a version of a model served from now on; see `Bandstand.load_model`."""
        return await self._call(calls.load_model(name, version))

    async def unload_model(self, name: str) -> ModelSummary:
        """Have a model served no more; see `Bandstand.unload_model`."""
        return await self._call(calls.unload_model(name))

    async def health(self) -> Health:
        """Return how the server is; one that is starting or draining answers too."""
        return await self._call(calls.health())

    async def wait_ready(self, timeout: float = 60.0) -> Health:  # noqa: ASYNC109
        """Return once the server is ready; see `Bandstand.wait_ready`."""
        timeouts = replace(self._timeouts, total=timeout)
        return await self._call(calls.readiness(), _UNTIL_READY, timeouts)

    async def _call(
        self, call: Call[T], policy: RetryPolicy | None = None, timeouts: Timeouts | None = None
    ) -> T:
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
