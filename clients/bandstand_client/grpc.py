"""The gRPC clients of Bandstand's models on Triton: `BandstandGrpc`, and `AsyncBandstandGrpc`.

    with BandstandGrpc("127.0.0.1:8001") as bandstand:
        print(bandstand.classify("song.mp3").primary_genre)

They work through NVIDIA's `tritonclient` (`pip install 'bandstand[triton]'`), with the results,
errors, deadlines and retries of the HTTP clients. Every method raises the errors of
`bandstand_client.errors`; `OSError` where a file cannot be read.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from bandstand_client import kserve
from bandstand_client.calls import Audio, encoded
from bandstand_client.concurrency import outcomes
from bandstand_client.errors import BandstandClientError
from bandstand_client.grpc_transport import (
    MAX_UPLOAD_BYTES,
    GrpcOptions,
    Tls,
    infer_options,
    load_library,
    triton_errors,
)
from bandstand_client.kserve import InferCall, Inference
from bandstand_client.policy import Attempts, RetryPolicy, Timeouts
from bandstand_client.results import (
    FeaturesResult,
    GenreResult,
    Health,
    InstrumentsResult,
    ModelIndex,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_URL = "127.0.0.1:8001"

T = TypeVar("T")
A = TypeVar("A", bound=Audio)

_DEFAULT_TIMEOUTS = Timeouts()
_UNTIL_READY = RetryPolicy(retries=sys.maxsize, first_pause=0.1, longest_pause=1.0)


class BandstandGrpc:
    """A connection to a Triton server; a context manager. Safe to share between threads.

    Args:
        url: host:port of the server's gRPC service.
        timeout: seconds for a whole call, or `Timeouts` for its parts.
        retries: tries after the first, for calls that the server did not answer (`RetryPolicy`).
        api_key: sent as a bearer token, for a proxy that asks for one; it appears in no repr.
        tls: encrypt, and whom to trust; None: no encryption.
        max_upload_bytes: what the server accepts; more is refused here.

    Raises:
        ImportError: `tritonclient` is not installed.
        ValueError: no usable address, key, timeout or number of retries.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: Timeouts | float = _DEFAULT_TIMEOUTS,
        retries: int = 2,
        api_key: str | None = None,
        tls: Tls | None = None,
        max_upload_bytes: int = MAX_UPLOAD_BYTES,
    ) -> None:
        self._timeouts = Timeouts.of(timeout)
        self._policy = RetryPolicy(retries=retries)
        self._options = GrpcOptions(url, tls, self._timeouts, max_upload_bytes, api_key)
        self._triton = load_library().InferenceServerClient(**self._options.client_options())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.url!r})"

    def __enter__(self) -> BandstandGrpc:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self._triton.close()

    def classify(
        self, audio: Audio, *, model: str | None = None, top_k: int | None = None
    ) -> GenreResult:
        """Name the genre of `audio`.

        Args:
            audio: encoded bytes, the path of a file, or an open binary file.
            model: the model to ask; None: the server's default.
            top_k: how many genres `predictions` lists; None: the server's default.
        """
        content = self._options.check_size(encoded(audio))
        return self._infer(kserve.classify(content, model, top_k))

    def detect_instruments(
        self, audio: Audio, *, model: str | None = None, threshold: float | None = None
    ) -> InstrumentsResult:
        """Name the instruments of `audio`.

        Args:
            audio: encoded bytes, the path of a file, or an open binary file.
            model: the model to ask; None: the best that the server has.
            threshold: least probability (0 to 1) of what is listed; None: the server's default.
        """
        content = self._options.check_size(encoded(audio))
        return self._infer(kserve.instruments(content, model, threshold))

    def features(self, audio: Audio) -> FeaturesResult:
        """Compute the audio features of `audio`."""
        content = self._options.check_size(encoded(audio))
        return self._infer(kserve.features(content))

    def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], *, version: int | None = None
    ) -> Inference:
        """Have a model answer arrays by name, batch axis first; such as windows of samples.

        Args:
            model: any model of the server.
            inputs: an array per input, with the model's dtypes.
            version: the version to ask; None: the newest that is served.
        """
        return self._infer(kserve.arrays(model, inputs, version))

    def models(self) -> ModelIndex:
        """List what lies in the server's repository, loaded or not."""
        return self._repeated(self._index)

    def load_model(self, name: str) -> None:
        """Have the server load a model, or read its configuration and versions anew.

        Returns when the version that is to be served answers; what was begun with the one before
        is answered by that. The server must have been started with explicit model control.
        """
        self._repeated(lambda options: self._triton.load_model(name, **options))

    def unload_model(self, name: str) -> None:
        """Have the server take no more requests for a model; those it has are answered."""
        self._repeated(lambda options: self._triton.unload_model(name, **options))

    def health(self) -> Health:
        """Return how the server is, with its own version; one that is not ready answers too."""
        return self._repeated(self._health)

    def wait_ready(self, timeout: float = 60.0) -> Health:
        """Return once the server is ready.

        Args:
            timeout: seconds to wait at most, for a server that does not listen yet too.

        Raises:
            UnavailableError: not ready by then; the message says what is missing.
        """
        return self._repeated(
            lambda options: kserve.require_ready(self._health(options)),
            _UNTIL_READY,
            replace(self._timeouts, total=timeout),
        )

    def _infer(self, call: InferCall[T]) -> T:
        arguments = infer_options(call, uuid4().hex)

        def attempt(options: dict[str, Any]) -> Inference:
            return kserve.read_inference(call.model, self._triton.infer(**arguments, **options))

        return call.interpret(self._repeated(attempt, request_id=arguments["request_id"]))

    def _index(self, options: dict[str, Any]) -> ModelIndex:
        return kserve.read_index(self._triton.get_model_repository_index(**options))

    def _health(self, options: dict[str, Any]) -> Health:
        ready = self._triton.is_server_ready(**options)
        version = self._triton.get_server_metadata(**options).version
        return kserve.read_health(ready, version, self._index(options))

    def _repeated(
        self,
        attempt: Callable[[dict[str, Any]], T],
        policy: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        request_id: str | None = None,
    ) -> T:
        attempts = Attempts(policy or self._policy, timeouts or self._timeouts)
        request_id = request_id or uuid4().hex
        headers = self._options.headers(request_id)
        while True:
            try:
                left = min(self._timeouts.read, attempts.remaining())
                with triton_errors(request_id):
                    return attempt({"headers": headers, "client_timeout": left})
            except BandstandClientError as error:
                pause = attempts.pause_before_next(error)
            time.sleep(pause)


class AsyncBandstandGrpc:
    """The same for asyncio, with `classify_many` and its like; an async context manager.

    Its arguments are those of `BandstandGrpc`. The channel is opened by the first call, and
    belongs to that call's event loop.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: Timeouts | float = _DEFAULT_TIMEOUTS,
        retries: int = 2,
        api_key: str | None = None,
        tls: Tls | None = None,
        max_upload_bytes: int = MAX_UPLOAD_BYTES,
    ) -> None:
        self._timeouts = Timeouts.of(timeout)
        self._policy = RetryPolicy(retries=retries)
        self._options = GrpcOptions(url, tls, self._timeouts, max_upload_bytes, api_key)
        self._library = load_library().aio
        self._opened: Any = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.url!r})"

    async def __aenter__(self) -> AsyncBandstandGrpc:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the channel; calls under way are cancelled."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    async def classify(
        self, audio: Audio, *, model: str | None = None, top_k: int | None = None
    ) -> GenreResult:
        """Name the genre of a recording; see `BandstandGrpc.classify`."""
        return await self._infer(kserve.classify(await self._content(audio), model, top_k))

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
        self, audio: Audio, *, model: str | None = None, threshold: float | None = None
    ) -> InstrumentsResult:
        """Name the instruments of a recording; see `BandstandGrpc.detect_instruments`."""
        content = await self._content(audio)
        return await self._infer(kserve.instruments(content, model, threshold))

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

    async def features(self, audio: Audio) -> FeaturesResult:
        """Compute the audio features of a recording; see `BandstandGrpc.features`."""
        return await self._infer(kserve.features(await self._content(audio)))

    async def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], *, version: int | None = None
    ) -> Inference:
        """Have a model answer arrays by name; see `BandstandGrpc.infer`."""
        return await self._infer(kserve.arrays(model, inputs, version))

    async def models(self) -> ModelIndex:
        """List what lies in the server's repository, loaded or not."""
        return await self._repeated(self._index)

    async def load_model(self, name: str) -> None:
        """Have the server load a model; see `BandstandGrpc.load_model`."""
        await self._repeated(lambda options: self._triton.load_model(name, **options))

    async def unload_model(self, name: str) -> None:
        """Have the server unload a model; see `BandstandGrpc.unload_model`."""
        await self._repeated(lambda options: self._triton.unload_model(name, **options))

    async def health(self) -> Health:
        """Return how the server is, with its own version; one that is not ready answers too."""
        return await self._repeated(self._health)

    async def wait_ready(self, timeout: float = 60.0) -> Health:  # noqa: ASYNC109
        """Return once the server is ready; see `BandstandGrpc.wait_ready`."""

        async def ready(options: dict[str, Any]) -> Health:
            return kserve.require_ready(await self._health(options))

        return await self._repeated(ready, _UNTIL_READY, replace(self._timeouts, total=timeout))

    @property
    def _triton(self) -> Any:
        if self._opened is None:
            self._opened = self._library.InferenceServerClient(**self._options.client_options())
        return self._opened

    async def _content(self, audio: Audio) -> bytes:
        return self._options.check_size(await asyncio.to_thread(encoded, audio))

    async def _infer(self, call: InferCall[T]) -> T:
        arguments = infer_options(call, uuid4().hex)

        async def attempt(options: dict[str, Any]) -> Inference:
            result = await self._triton.infer(**arguments, **options)
            return kserve.read_inference(call.model, result)

        return call.interpret(await self._repeated(attempt, request_id=arguments["request_id"]))

    async def _index(self, options: dict[str, Any]) -> ModelIndex:
        return kserve.read_index(await self._triton.get_model_repository_index(**options))

    async def _health(self, options: dict[str, Any]) -> Health:
        ready = await self._triton.is_server_ready(**options)
        version = (await self._triton.get_server_metadata(**options)).version
        return kserve.read_health(ready, version, await self._index(options))

    async def _repeated(
        self,
        attempt: Callable[[dict[str, Any]], Awaitable[T]],
        policy: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        request_id: str | None = None,
    ) -> T:
        attempts = Attempts(policy or self._policy, timeouts or self._timeouts)
        request_id = request_id or uuid4().hex
        headers = self._options.headers(request_id)
        while True:
            try:
                left = min(self._timeouts.read, attempts.remaining())
                with triton_errors(request_id):
                    return await attempt({"headers": headers, "client_timeout": left})
            except BandstandClientError as error:
                pause = attempts.pause_before_next(error)
            await asyncio.sleep(pause)
