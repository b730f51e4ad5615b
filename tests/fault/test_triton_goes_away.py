"""Triton dies, hangs and comes back: the gateway reports it, and recovers without a restart."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from bandstand.models.repository import ModelRepository
from bandstand.triton.server import ServerOptions, TritonServer
from bandstand_bentos.wiring import GATEWAY
from harness.recordings import tone
from harness.serving import Server, serving
from tests.triton_serving import (
    WAVEFORM_MODEL,
    embedded_repository,
    halted,
    install_waveform_model,
    killed_at_the_end,
    triton_serving,
)

pytestmark = pytest.mark.alone

CONCURRENCY = 4
FOLLOWS_WITHIN_SECONDS = 15.0
ANSWERS_WITHIN_SECONDS = 60.0
DEADLINE_SECONDS = 4.0


@dataclass(frozen=True)
class Outcome:
    """What became of one request."""

    status: int
    retry_after: str | None


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    repository = embedded_repository(tmp_path_factory.mktemp("models") / "models")
    install_waveform_model(repository)
    return repository


@pytest.fixture(scope="module")
def triton(repository: ModelRepository) -> Iterator[TritonServer]:
    with triton_serving(repository) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    triton: TritonServer, repository: ModelRepository, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("gateway") / "log",
        runtime="triton",
        triton_url=triton.grpc_address,
        repository=repository.root,
        feature_cache_entries=0,
        request_deadline_seconds=DEADLINE_SECONDS,
    ) as running:
        yield running


@asynccontextmanager
async def load(url: str) -> AsyncIterator[list[Outcome]]:
    """Send requests from several clients until the block ends; yield what became of them."""
    seen: list[Outcome] = []
    stop = asyncio.Event()

    async def worker(client: httpx.AsyncClient, number: int) -> None:
        while not stop.is_set():
            # Every second model takes windows large enough for shared memory.
            params = {"model_name": WAVEFORM_MODEL} if number % 2 else {}
            audio = tone(10.0, hz=200.0 + number)
            answer = await client.post("/predict", params=params, content=audio)
            seen.append(Outcome(answer.status_code, answer.headers.get("retry-after")))

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        workers = [asyncio.create_task(worker(client, n)) for n in range(CONCURRENCY)]
        try:
            yield seen
        finally:
            stop.set()
            await asyncio.gather(*workers)


async def eventually(check: Callable[[], Awaitable[bool]], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if await check():
                return
            await asyncio.sleep(0.05)


async def until_ready(client: httpx.AsyncClient, status: int) -> None:
    async def check() -> bool:
        return (await client.get("/readyz")).status_code == status

    await eventually(check, FOLLOWS_WITHIN_SECONDS)


async def until_answered(seen: list[Outcome], count: int) -> None:
    """Wait for that many further answers."""
    enough = len(seen) + count

    async def check() -> bool:
        return len(seen) >= enough

    await eventually(check, ANSWERS_WITHIN_SECONDS)


async def until_in_flight(client: httpx.AsyncClient, count: int) -> None:
    async def check() -> bool:
        text = (await client.get("/metrics")).text
        found = re.search(r"^bandstand_requests_in_flight (\S+)", text, re.MULTILINE)
        assert found, text
        return float(found[1]) == count

    await eventually(check, DEADLINE_SECONDS / 2)


@asynccontextmanager
async def started_again(options: ServerOptions) -> AsyncIterator[TritonServer]:
    running = killed_at_the_end(options)
    server = await asyncio.to_thread(running.__enter__)
    try:
        yield server
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


async def test_a_deadline_shorter_than_the_work(gateway: Server, triton: TritonServer) -> None:
    audio = tone(1.0)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        assert (await client.post("/predict", content=audio)).status_code == 200
        with halted(triton):
            started = time.monotonic()
            answer = await client.post("/predict", content=audio)
            assert time.monotonic() - started >= DEADLINE_SECONDS
            assert (answer.status_code, answer.json()["error_type"]) == (504, "deadline_exceeded")
        assert (await client.post("/predict", content=audio)).status_code == 200


async def test_a_client_that_hangs_up_is_not_waited_for(
    gateway: Server, triton: TritonServer
) -> None:
    audio = tone(1.0)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        assert (await client.post("/predict", content=audio)).status_code == 200
        with halted(triton):
            leave = [asyncio.create_task(client.post("/predict", content=audio)) for _ in range(4)]
            await until_in_flight(client, len(leave))
            for task in leave:
                task.cancel()
            await asyncio.gather(*leave, return_exceptions=True)
            await until_in_flight(client, 0)  # although Triton answers nothing
        assert (await client.post("/predict", content=audio)).status_code == 200


# Last: it leaves no server behind.
async def test_killed_under_load_and_started_again(gateway: Server, triton: TritonServer) -> None:
    before = gateway.worker(GATEWAY).pid
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=30) as client,
        load(gateway.url) as seen,
    ):
        await until_answered(seen, 2 * CONCURRENCY)
        assert {outcome.status for outcome in seen} == {200}
        triton.process.kill()
        await until_answered(seen, 2 * CONCURRENCY)
        await until_ready(client, 503)
        await asyncio.to_thread(triton.stop)  # its stubs outlive it for a while
        async with started_again(triton.options):
            await until_ready(client, 200)
            recovered = len(seen)
            await until_answered(seen, 4 * CONCURRENCY)
            # Those that were under way when it came back may have been told that it is gone.
            late = seen[recovered + CONCURRENCY :]
            assert {outcome.status for outcome in late} == {200}
            refused = [outcome for outcome in seen if outcome.status != 200]
            assert {outcome.status for outcome in refused} == {503}
            assert all(outcome.retry_after for outcome in refused)
            assert gateway.worker(GATEWAY).pid == before
