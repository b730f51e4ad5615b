"""The gRPC clients of Bandstand's models on Triton: `BandstandGrpc`, and `AsyncBandstandGrpc`.

    with BandstandGrpc("127.0.0.1:8001") as bandstand:
        print(bandstand.classify("song.mp3").primary_genre)

They use NVIDIA's `tritonclient` (`pip install 'bandstand-client[grpc]'`), and have the HTTP
clients' answers, errors, deadlines and retries. Every method raises the errors of
`bandstand_client.errors`, and `OSError` if a file cannot be read.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from uuid import uuid4

from bandstand_client import kserve
from bandstand_client.calls import encoded
from bandstand_client.contract.declaration import Audio, Operation
from bandstand_client.contract.models import ModelIndex
from bandstand_client.contract.operations import Operations
from bandstand_client.contract.shared import Health
from bandstand_client.errors import BandstandClientError
from bandstand_client.grpc_transport import (
    MAX_UPLOAD_BYTES,
    GrpcOptions,
    Tls,
    for_administrators,
    infer_options,
    load_library,
    triton_errors,
)
from bandstand_client.kserve import InferCall, Inference
from bandstand_client.policy import Attempts, RetryPolicy, Timeouts

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_URL = "127.0.0.1:8001"

T = TypeVar("T")

_DEFAULT_TIMEOUTS = Timeouts()
_UNTIL_READY = RetryPolicy(retries=sys.maxsize, first_pause=0.1, longest_pause=1.0)


class BandstandGrpc(Operations):
    """A connection to a Triton server; a context manager. Safe to share between threads.

    Args:
        url: host:port of the server's gRPC service.
        timeout: seconds for a whole call, or `Timeouts` for its parts.
        retries: tries after the first, for calls without an answer (`RetryPolicy`).
        api_key: sent as a bearer token, for a proxy that needs one; the administrator's key also
            lets the server change models. It appears in no repr.
        tls: the certificates; None: no encryption.
        max_upload_bytes: the server's limit; the client refuses more.

    Raises:
        ImportError: `tritonclient` is not installed.
        ValueError: no usable address, key, timeout or number of retries.
    """

    is_async: ClassVar[bool] = False

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

    def answer(
        self, operation: Operation[..., T], audio: Audio, options: Mapping[str, object]
    ) -> T:
        """Call one operation; `client.classify(audio)` is the shorter form.

        Raises:
            ValueError: an address as audio; Triton downloads nothing.
        """
        content = self._options.check_size(encoded(audio))
        return self._infer(kserve.ask(operation, content, options))

    def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], *, version: int | None = None
    ) -> Inference:
        """Compute a model's outputs for named arrays, batch axis first, such as windows of samples.

        Args:
            model: any model of the server.
            inputs: one array for each input, with the model's dtypes.
            version: the version to call; None: the newest that is served.
        """
        return self._infer(kserve.arrays(model, inputs, version))

    def models(self) -> ModelIndex:
        """List the models of the server's repository, loaded or not; for its administrator."""
        return self._repeated(self._index)

    def load_model(self, name: str) -> None:
        """Load a model, or read its configuration and versions again.

        Returns when the new version is ready; the previous version finishes its requests. The
        server must have explicit model control.
        """
        self._repeated(lambda options: self._triton.load_model(name, **options))

    def unload_model(self, name: str) -> None:
        """Unload a model: the server refuses new requests for it, and finishes those in flight."""
        self._repeated(lambda options: self._triton.unload_model(name, **options))

    def health(self) -> Health:
        """Return the state of the server and its version, also while it is not ready.

        The checks of its models need the administrator's key; without it there are none.
        """
        return self._repeated(self._health)

    def wait_ready(self, timeout: float = 60.0) -> Health:
        """Return once the server is ready.

        Args:
            timeout: seconds to wait at most; the server need not listen yet.

        Raises:
            UnavailableError: the server is not ready after that time; the message has the reason.
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
        with for_administrators(options):
            return kserve.read_health(ready, version, self._index(options))
        return kserve.read_health(ready, version, ModelIndex(()))

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


class AsyncBandstandGrpc(Operations):
    """The asyncio client, with `classify.many` for each operation; an async context manager.

    Its arguments are those of `BandstandGrpc`. The channel is opened by the first call, and
    belongs to that call's event loop.
    """

    is_async: ClassVar[bool] = True

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
        """Close the channel; calls in flight are cancelled."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    async def answer(
        self, operation: Operation[..., T], audio: Audio, options: Mapping[str, object]
    ) -> T:
        """Call one operation; `await client.classify(audio)` is the shorter form."""
        content = self._options.check_size(await asyncio.to_thread(encoded, audio))
        return await self._infer(kserve.ask(operation, content, options))

    async def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], *, version: int | None = None
    ) -> Inference:
        """Compute a model's outputs; see `BandstandGrpc.infer`."""
        return await self._infer(kserve.arrays(model, inputs, version))

    async def models(self) -> ModelIndex:
        """List the models of the server's repository, loaded or not; for its administrator."""
        return await self._repeated(self._index)

    async def load_model(self, name: str) -> None:
        """Load a model; see `BandstandGrpc.load_model`."""
        await self._repeated(lambda options: self._triton.load_model(name, **options))

    async def unload_model(self, name: str) -> None:
        """Unload a model; see `BandstandGrpc.unload_model`."""
        await self._repeated(lambda options: self._triton.unload_model(name, **options))

    async def health(self) -> Health:
        """Return the state of the server and its version, also while it is not ready.

        The checks of its models need the administrator's key; without it there are none.
        """
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
        with for_administrators(options):
            return kserve.read_health(ready, version, await self._index(options))
        return kserve.read_health(ready, version, ModelIndex(()))

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
