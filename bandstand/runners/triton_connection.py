"""A connection to a Triton server: KServe v2 over gRPC, with deadlines, repetition and errors.

Written on the generated protocol of `tritonclient`, below its client class: what a call costs here,
every request to the gateway pays.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bandstand.errors import (
    BandstandError,
    DeadlineExceededError,
    ModelMismatchError,
    ModelNotInstalledError,
    UnavailableError,
)
from bandstand.runners.repetition import PAUSES_SECONDS, RETRY_AFTER_SECONDS
from bandstand.telemetry import RETRIES

_NAME = "triton"
# Of the calls that do no inference.
_CONTROL_SECONDS = 5.0
# A model's load; an engine may have to be built for it.
_LOAD_SECONDS = 600.0
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Channels to one address would share one connection otherwise.
    ("grpc.use_local_subchannel_pool", 1),
    # A server that is back is found within a second, not within two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class RegionUnknownError(BandstandError):
    """The server does not know a region of shared memory: it was started anew."""

    status = 503
    error_type = "region_unknown"


class TritonFailedError(BandstandError):
    """The server refused or failed, for a reason that is none of the others."""

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
    """A few channels to one server, opened at the first call; belongs to one event loop.

    Args:
        url: `host:port` of the server's gRPC service, or `unix:…`.
        channels: connections that calls are spread over.
        deadline_seconds: of one inference, its repetitions included.

    Raises:
        UnavailableError: the client's package is not installed.
    """

    def __init__(self, url: str, *, channels: int, deadline_seconds: float) -> None:
        self.url = url
        self.messages = protocol()
        self._count = channels
        self._deadline = deadline_seconds
        self._channels: list[Any] = []
        self._stubs: list[Any] = []
        self._calls = 0

    async def infer(self, request: Any) -> Any:
        """Run one `ModelInferRequest`.

        Models are pure functions, so a call whose connection broke is repeated.

        Raises:
            ModelNotInstalledError: the server does not serve that model.
            RegionUnknownError: nor does it know the shared memory that the request names.
            UnavailableError: the server is gone, or went away again and again over this call.
            DeadlineExceededError: no answer in time.
            TritonFailedError: the server failed over it.
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

    async def ready_versions(self) -> dict[str, int]:
        """Return the newest version that is ready of every model that has one."""
        request = self.messages.RepositoryIndexRequest(ready=True)
        newest: dict[str, int] = {}
        for entry in (await self._call("RepositoryIndex", request)).models:
            if entry.version.isdigit():
                newest[entry.name] = max(int(entry.version), newest.get(entry.name, 0))
        return newest

    async def load(self, model: str) -> None:
        """Have the server load a model, or read its configuration and versions anew.

        Raises:
            ModelMismatchError: it cannot be loaded; what was served before still is.
        """
        request = self.messages.RepositoryModelLoadRequest(model_name=model)
        try:
            await self._call("RepositoryModelLoad", request, _LOAD_SECONDS)
        except TritonFailedError as error:
            raise ModelMismatchError(error.message) from error

    async def unload(self, model: str) -> None:
        """Have the server take no more requests for a model, and let it go after the last one."""
        request = self.messages.RepositoryModelUnloadRequest(model_name=model)
        await self._call("RepositoryModelUnload", request, _LOAD_SECONDS)

    async def register(self, name: str, key: str, size: int) -> None:
        """Have the server map `/dev/shm/<key>`."""
        request = self.messages.SystemSharedMemoryRegisterRequest(
            name=name, key=key, byte_size=size
        )
        await self._call("SystemSharedMemoryRegister", request)

    async def unregister(self, name: str) -> None:
        """Have the server let a region go."""
        request = self.messages.SystemSharedMemoryUnregisterRequest(name=name)
        await self._call("SystemSharedMemoryUnregister", request)

    async def regions(self) -> list[str]:
        """Name all regions of shared memory that the server has."""
        request = self.messages.SystemSharedMemoryStatusRequest()
        return list((await self._call("SystemSharedMemoryStatus", request)).regions)

    async def aclose(self) -> None:
        """Close all channels; calls under way are cancelled."""
        channels, self._channels, self._stubs = self._channels, [], []
        for channel in channels:
            await channel.close()

    async def _call(self, method: str, request: Any, seconds: float = _CONTROL_SECONDS) -> Any:
        from grpc.aio import AioRpcError

        if not self._stubs:
            self._open()
        self._calls += 1
        stub = self._stubs[self._calls % self._count]
        try:
            return await getattr(stub, method)(request, timeout=seconds)
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
        """Return what a failed call means."""
        code, details = error.code().name, error.details() or ""
        if code in ("UNAVAILABLE", "CANCELLED"):  # cancelled by the server: it is stopping
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
