"""Bandstand's models on Triton over gRPC, as a load test asks them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from bandstand.errors import UnusableRequestError
from bandstand_client.errors import BandstandClientError
from bandstand_client.grpc import AsyncBandstandGrpc
from bandstand_client.grpc_transport import (
    MAX_UPLOAD_BYTES,
    GrpcOptions,
    Tls,
    load_library,
    triton_errors,
)
from bandstand_client.policy import Timeouts
from bandstand_loadtest.targets.answers import answer_of, failed
from bandstand_loadtest.targets.base import Answer, Counters, ServerMetadata, Target


@asynccontextmanager
async def open_grpc_target(
    address: str, model: str, api_key: str | None = None
) -> AsyncIterator[Target]:
    """Connect to the Triton server at `grpc(s)://host:port`.

    Raises:
        UnusableRequestError: `tritonclient` is not installed.
        ValueError: no such address.
    """
    parts = urlsplit(address)
    tls = Tls() if parts.scheme == "grpcs" else None
    options = GrpcOptions(parts.netloc, tls, Timeouts(), MAX_UPLOAD_BYTES, api_key)
    try:
        library = load_library()
    except ImportError as error:
        raise UnusableRequestError(str(error)) from error
    async with (
        AsyncBandstandGrpc(parts.netloc, retries=0, api_key=api_key, tls=tls) as client,
        library.aio.InferenceServerClient(**options.client_options()) as triton,
    ):
        yield _GrpcTarget(address, model, client, triton, options)


class _GrpcTarget:
    """Bandstand's models on Triton: its client's calls, never repeated, and Triton's statistics."""

    def __init__(
        self,
        address: str,
        model: str,
        client: AsyncBandstandGrpc,
        triton: Any,
        options: GrpcOptions,
    ) -> None:
        self._address = address
        self._model = model
        self._client = client
        self._triton = triton
        self._options = options

    async def classify(self, content: bytes) -> Answer:
        try:
            return answer_of(await self._client.classify(content, model_name=self._model))
        except BandstandClientError as error:
            raise failed(error) from error

    async def counters(self) -> Counters:
        request_id = uuid4().hex
        with triton_errors(request_id):
            response = await self._triton.get_inference_statistics(
                headers=self._options.headers(request_id)
            )
        return read_statistics(response, self._model)

    async def describe(self) -> ServerMetadata:
        health = await self._client.health()
        request_id = uuid4().hex
        with triton_errors(request_id):
            response = await self._triton.get_model_config(
                self._model, headers=self._options.headers(request_id)
            )
        return ServerMetadata(
            address=self._address,
            protocol="gRPC",
            version=f"Triton {health.version}",
            model=self._model,
            runtime=f"backend {response.config.backend or response.config.platform}",
        )


def read_statistics(response: Any, model: str) -> Counters:
    """Read a `ModelStatisticsResponse`.

    Args:
        response: of all models: each may have answers in the response cache.
        model: whose batches are counted, all versions together.
    """
    batches: dict[int, int] = {}
    hits = 0
    for statistics in response.model_stats:
        hits += statistics.inference_stats.cache_hit.count
        if statistics.name == model:
            for size in statistics.batch_stats:
                count = batches.get(size.batch_size, 0) + size.compute_infer.count
                batches[size.batch_size] = count
    return Counters({str(size): batches[size] for size in sorted(batches)}, hits)
