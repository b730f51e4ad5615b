"""A connection to a Triton server: KServe v2 over gRPC, with deadlines, repetition and errors.

It uses the generated protocol of `tritonclient` and not its client class, which is slower; every
request to the gateway makes such a call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any

from bandstand.errors import (
    BandstandError,
    DeadlineExceededError,
    ModelControlOffError,
    ModelMismatchError,
    ModelNotInstalledError,
    UnavailableError,
)
from bandstand.runners.repetition import PAUSES_SECONDS, RETRY_AFTER_SECONDS
from bandstand.telemetry import RETRIES
from bandstand_client.triton_control import GRPC_HEADER, REFUSAL

_NAME = "triton"
# Calls that need no key, so that none is sent with them.
_FOR_EVERYBODY = frozenset({"ModelInfer", "ModelMetadata", "ServerMetadata"})
# The deadline of calls other than inference.
_CONTROL_SECONDS = 5.0
# The deadline of loading a model, which may include building an engine.
_LOAD_SECONDS = 600.0
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Otherwise channels to one address share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    # Reconnects to a restarted server within a second, not within two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class RegionUnknownError(BandstandError):
    """The server does not know a region of shared memory: the server was restarted."""

    status = 503
    error_type = "region_unknown"


class TritonFailedError(BandstandError):
    """The server failed, or refused a call, for any other reason."""

    error_type = "triton_failed"


def protocol() -> Any:
    """Return the module of KServe's messages.

    Raises:
        UnavailableError: the package is not installed.
    """
    try:
        from tritonclient.grpc import service_pb2
    except ImportError as error:
        raise UnavailableError(
            "the Triton client is not installed: pip install 'bandstand[triton]'"
        ) from error
    return service_pb2


class TritonConnection:
    """A few channels to one server, opened at the first call; for one event loop only.

    Args:
        url: `host:port` of the server's gRPC service, or `unix:…`.
        channels: number of connections; calls use them in turn.
        deadline_seconds: the deadline of one inference with its repetitions.
        control_key: of a server that protects its model control and shared memory.

    Raises:
        UnavailableError: the client's package is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        channels: int,
        deadline_seconds: float,
        control_key: str | None = None,
    ) -> None:
        self.url = url
        self.messages = protocol()
        self._count = channels
        self._deadline = deadline_seconds
        self._control = ((GRPC_HEADER, control_key),) if control_key else None
        self._channels: list[Any] = []
        self._stubs: list[Any] = []
        self._calls = 0

    async def infer(self, request: Any) -> Any:
        """Run one `ModelInferRequest`.

        Models are pure functions, so a call whose connection broke is repeated.

        Raises:
            ModelNotInstalledError: the server does not serve that model.
            RegionUnknownError: the server does not know the request's shared memory.
            UnavailableError: the server cannot be reached, also after repetitions.
            DeadlineExceededError: there was no answer before the deadline.
            TritonFailedError: the server failed in this call.
        """
        ends = time.monotonic() + self._deadline
        for pause in (*PAUSES_SECONDS, None):
            try:
                return await self._call("ModelInfer", request, ends - time.monotonic())
            except UnavailableError:
                if pause is None or time.monotonic() + pause >= ends:
                    raise
            RETRIES.labels(_NAME).inc()
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def server_version(self) -> str:
        """Return Triton's version."""
        answer = await self._call("ServerMetadata", self.messages.ServerMetadataRequest())
        return str(answer.version)

    async def ready_versions(self, names: Collection[str]) -> dict[str, int]:
        """Return the newest ready version of each model that has one.

        Args:
            names: of the models to ask for one by one, if the server lists them for its key only.
        """
        request = self.messages.RepositoryIndexRequest(ready=True)
        try:
            index = await self._call("RepositoryIndex", request)
        except ModelControlOffError:
            return await self._ready_versions_of(names)
        newest: dict[str, int] = {}
        for entry in index.models:
            if entry.version.isdigit():
                newest[entry.name] = max(int(entry.version), newest.get(entry.name, 0))
        return newest

    async def _ready_versions_of(self, names: Collection[str]) -> dict[str, int]:
        newest: dict[str, int] = {}
        for name in names:
            try:
                answer = await self._call(
                    "ModelMetadata", self.messages.ModelMetadataRequest(name=name)
                )
            except BandstandError:
                continue  # it is not loaded; whether the server is there, another call finds out
            newest[name] = max(map(int, answer.versions), default=0)
        return {name: version for name, version in newest.items() if version}

    async def load(self, model: str) -> None:
        """Make the server load a model, or read its configuration and versions again.

        Raises:
            ModelMismatchError: it cannot be loaded; the previous versions are still served.
            ModelControlOffError: the server has another key.
        """
        request = self.messages.RepositoryModelLoadRequest(model_name=model)
        try:
            await self._call("RepositoryModelLoad", request, _LOAD_SECONDS)
        except TritonFailedError as error:
            raise ModelMismatchError(error.message) from error

    async def unload(self, model: str) -> None:
        """Make the server refuse new requests for a model, and unload it after those in flight.

        Raises:
            ModelControlOffError: the server has another key.
        """
        request = self.messages.RepositoryModelUnloadRequest(model_name=model)
        await self._call("RepositoryModelUnload", request, _LOAD_SECONDS)

    async def register(self, name: str, key: str, size: int) -> None:
        """Make the server map `/dev/shm/<key>`."""
        request = self.messages.SystemSharedMemoryRegisterRequest(
            name=name, key=key, byte_size=size
        )
        await self._call("SystemSharedMemoryRegister", request)

    async def unregister(self, name: str) -> None:
        """Make the server unmap a region."""
        request = self.messages.SystemSharedMemoryUnregisterRequest(name=name)
        await self._call("SystemSharedMemoryUnregister", request)

    async def regions(self) -> list[str]:
        """Return the names of the server's regions of shared memory."""
        request = self.messages.SystemSharedMemoryStatusRequest()
        return list((await self._call("SystemSharedMemoryStatus", request)).regions)

    async def aclose(self) -> None:
        """Close all channels; calls in flight are cancelled."""
        channels, self._channels, self._stubs = self._channels, [], []
        for channel in channels:
            await channel.close()

    async def _call(self, method: str, request: Any, seconds: float = _CONTROL_SECONDS) -> Any:
        from grpc.aio import AioRpcError

        if not self._stubs:
            self._open()
        self._calls += 1
        stub = self._stubs[self._calls % self._count]
        metadata = None if method in _FOR_EVERYBODY else self._control
        try:
            return await getattr(stub, method)(request, timeout=seconds, metadata=metadata)
        except AioRpcError as error:
            raise self._refusal(error) from error

    def _open(self) -> None:
        import grpc
        from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

        self._channels = [
            grpc.aio.insecure_channel(self.url, options=_OPTIONS) for _ in range(self._count)
        ]
        self._stubs = [GRPCInferenceServiceStub(channel) for channel in self._channels]

    def _refusal(self, error: Any) -> BandstandError:
        """Return the error of a failed call."""
        code, details = error.code().name, error.details() or ""
        if REFUSAL in details:  # its code is UNAVAILABLE
            return ModelControlOffError(
                f"Triton at {self.url} changes models and shares memory only for its key: the "
                "BANDSTAND_ADMIN_KEY of the gateway must be that of the Triton server"
            )
        if code in ("UNAVAILABLE", "CANCELLED"):  # the server cancels calls when it stops
            return UnavailableError(
                f"Triton at {self.url} is not available", retry_after=RETRY_AFTER_SECONDS
            )
        if code == "DEADLINE_EXCEEDED":
            return DeadlineExceededError(f"Triton at {self.url} did not answer in time")
        if code == "NOT_FOUND" and "shared memory region" in details:
            return RegionUnknownError(details, retry_after=RETRY_AFTER_SECONDS)
        if code == "NOT_FOUND":
            return ModelNotInstalledError(f"not served by Triton at {self.url}: {details}")
        return TritonFailedError(f"Triton at {self.url} failed ({code.lower()}): {details}")
