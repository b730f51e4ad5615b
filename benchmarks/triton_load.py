"""Triton in comparisons: a real server on a copy of a repository, and requests over gRPC."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tritonclient.grpc as sync_client
import tritonclient.grpc.aio as client
from numpy.typing import NDArray
from pydantic import SecretStr
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from bandstand.runners.base import Array
from bandstand.settings import get_settings
from bandstand.triton.environment import prepare_environment
from bandstand.triton.server import ServerOptions, TritonServer, running_server
from benchmarks.contenders import Turn
from benchmarks.load import LOST, Load
from benchmarks.processes import cpu_seconds
from harness.serving import free_port

ADMIN_KEY = "administrator of the benchmark"
"""A gateway shares memory with a Triton server that has the same."""

_OK = 200
_ANSWER_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class TritonRequest:
    """One request of one model: its name, and its inputs, batch axis first where it has one."""

    model: str
    inputs: dict[str, Array | NDArray[np.object_]]


@dataclass(frozen=True, slots=True)
class ServedByTriton:
    """One request asked of Triton over gRPC, again and again."""

    server: TritonServer
    request: TritonRequest
    concurrency: int

    def run(self, requests: int) -> Turn:
        """Ask; the CPU time is that of the server and of the stubs that run its models.

        Raises:
            RuntimeError: a request was not answered.
        """
        running = processes(self.server)
        before = cpu_seconds(running)
        load = drive_grpc(self.server.grpc_address, self.request, requests, self.concurrency)
        used = cpu_seconds(running) - before
        if load.statuses != Counter({_OK: requests}):
            raise RuntimeError(f"Triton answered {dict(load.statuses)}: {self.server.complaints()}")
        return Turn(
            cpu_ms=1e3 * used / requests,
            per_second=requests / load.wall_seconds,
            load_cpu_ms=1e3 * load.own_cpu_seconds / requests,
            latencies=load.latencies,
        )


@contextmanager
def triton_of(repository: Path) -> Iterator[TritonServer]:
    """Serve a copy of a repository: its cards' models, and those that take encoded audio.

    Its administrator's key is `ADMIN_KEY`.
    """
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "model_repository"
        shutil.copytree(repository, copy)
        settings = get_settings().model_copy(update={"admin_key": SecretStr(ADMIN_KEY)})
        with running_server(_options(copy), settings=settings, on_step=_print_step) as server:
            _check_ready(server)
            yield server


@contextmanager
def triton_as_it_is(repository: Path) -> Iterator[TritonServer]:
    """Serve a repository with the configs that it has, and nothing besides."""
    settings = get_settings()
    environment = prepare_environment(settings.cache_dir, _print_step)
    server = TritonServer(_options(repository), environment, settings)
    try:
        server.wait_ready()
        _check_ready(server)
        yield server
    finally:
        server.stop()


def _print_step(step: str) -> None:
    print(step, file=sys.stderr)


def _options(repository: Path) -> ServerOptions:
    http, grpc, metrics = free_port(), free_port(), free_port()
    return ServerOptions(
        repository=repository, http_port=http, grpc_port=grpc, metrics_port=metrics
    )


def _check_ready(server: TritonServer) -> None:
    broken = [f"{state.name}: {state.reason}" for state in server.models() if not state.ready]
    if broken:
        raise RuntimeError(f"Triton did not load everything: {'; '.join(broken)}")


def processes(server: TritonServer) -> list[psutil.Process]:
    """Return the server and the stubs that run its models."""
    top = psutil.Process(server.process.pid)
    return [top, *top.children(recursive=True)]


def triton_version(server: TritonServer) -> str:
    """Return the server's version, as it says itself."""
    with sync_client.InferenceServerClient(server.grpc_address) as asked:
        return str(asked.get_server_metadata().version)


def batch_sizes(server: TritonServer, model: str) -> Counter[int]:
    """Return how many batches of each size a model has run since it was loaded."""
    with sync_client.InferenceServerClient(server.grpc_address) as asked:
        (statistics,) = asked.get_inference_statistics(model).model_stats
    return Counter(
        {int(one.batch_size): int(one.compute_infer.count) for one in statistics.batch_stats}
    )


def drive_grpc(address: str, request: TritonRequest, requests: int, concurrency: int) -> Load:
    """Send one request so many times with NVIDIA's client, `concurrency` at a time."""
    load = Load()
    inputs = [_input(name, array) for name, array in request.inputs.items()]
    todo = repeat(None, requests)

    async def one_after_the_other(triton: Any) -> None:
        for _ in todo:
            await _ask(triton, request.model, inputs, load)

    async def all_at_once() -> None:
        async with client.InferenceServerClient(address) as triton:
            await triton.is_server_ready()  # opens the connection
            started, own = time.perf_counter(), time.process_time()
            await asyncio.gather(*(one_after_the_other(triton) for _ in range(concurrency)))
            load.own_cpu_seconds = time.process_time() - own
            load.wall_seconds = time.perf_counter() - started

    asyncio.run(all_at_once())
    return load


def _input(name: str, array: Array | NDArray[np.object_]) -> Any:
    tensor = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


async def _ask(triton: Any, model: str, inputs: Sequence[Any], load: Load) -> None:
    started = time.perf_counter()
    try:
        await triton.infer(model, inputs, client_timeout=_ANSWER_SECONDS)
    except InferenceServerException:
        load.statuses[LOST] += 1
        return
    load.latencies.append(time.perf_counter() - started)
    load.statuses[_OK] += 1
