"""A client that sends slowly, much, or many requests costs itself, and no other client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from http.client import HTTPResponse

import httpx
import pytest

from bandstand_bentos.wiring import PREPROCESSOR
from harness.recordings import tone
from harness.serving import Server, serving
from tests.bad_manners import connection, most_memory, send_until_answered, stopped
from tests.gauges import eventually, gauge, until_inside

MEGABYTE = 1024 * 1024
UPLOAD_BYTES, ALL_BYTES = 8 * MEGABYTE, 16 * MEGABYTE
IN_FLIGHT, QUEUED = 2, 8
MOST_OF_A_CLIENT = 5  # half of the places, and half of the queue
SILENCE_SECONDS = 3
GREEDY, GOOD = "127.0.0.1", "127.0.0.3"
HEAD = b"POST /predict HTTP/1.1\r\nHost: b\r\n%s\r\n\r\n"
KEY = "the-administrators-key"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("shared") / "log",
        feature_cache_entries=0,
        client_share=0.5,
        model_share=1.0,
        max_in_flight=IN_FLIGHT,
        max_queued=QUEUED,
        max_upload_bytes=UPLOAD_BYTES,
        max_body_bytes=ALL_BYTES,
        body_silence_seconds=SILENCE_SECONDS,
        admin_key=KEY,
    ) as running:
        yield running


@asynccontextmanager
async def client_at(server: Server, address: str) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client with an address of its own."""
    transport = httpx.AsyncHTTPTransport(local_address=address, limits=httpx.Limits())
    async with httpx.AsyncClient(base_url=server.url, transport=transport, timeout=90) as client:
        yield client


async def test_half_bodies_of_one_client_hold_its_own_places(shared: Server) -> None:
    # uvicorn believes this header from this host; it gives nobody another client's share.
    half = HEAD % b"X-Forwarded-For: 10.0.0.%d\r\nContent-Length: 1000"
    with ExitStack() as stack:
        halves = [
            stack.enter_context(connection(shared.url, GREEDY)) for _ in range(MOST_OF_A_CLIENT)
        ]
        for n, opened in enumerate(halves):
            opened.sendall(half % n + bytes(500))
        async with client_at(shared, GREEDY) as greedy, client_at(shared, GOOD) as good:

            async def is_refused() -> bool:
                return (await greedy.post("/predict", content=tone(1.0))).status_code == 429

            await eventually(is_refused)
            assert (await good.post("/predict", content=tone(1.0))).status_code == 200
        for opened in halves:
            response = HTTPResponse(opened)
            response.begin()
            assert (response.status, b'"request_timeout"' in response.read()) == (408, True)


def test_a_body_of_drops_ends(shared: Server) -> None:
    def drops() -> Iterator[bytes]:
        for _ in range(1_000):
            yield b"x"
            time.sleep(0.1)

    refused = send_until_answered(shared.url, HEAD % b"Content-Length: 1000", drops())
    assert (refused.status, b'"request_timeout"' in refused.body) == (408, True)


async def test_one_request_passes_the_queue_of_another_client(shared: Server) -> None:
    async with client_at(shared, GREEDY) as greedy, client_at(shared, GOOD) as good:
        with stopped(shared.worker(PREPROCESSOR)):
            asked = [
                asyncio.create_task(greedy.post("/predict", content=tone(1.0, hz=250.0 + n)))
                for n in range(MOST_OF_A_CLIENT)
            ]
            await until_inside(good, worked_on=1, waiting=MOST_OF_A_CLIENT - 1)
            asked.append(asyncio.create_task(good.post("/predict", content=tone(1.0))))
            await until_inside(good, worked_on=2, waiting=MOST_OF_A_CLIENT - 1)
            refused = await greedy.post("/predict", content=tone(1.0))
            assert (refused.status_code, refused.json()["error_type"]) == (429, "overloaded")
        assert {(await task).status_code for task in asked} == {200}


async def test_bodies_wait_outside_until_there_is_memory(shared: Server) -> None:
    noise = bytes(UPLOAD_BYTES)
    before = most_memory(shared)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(client_at(shared, f"127.0.0.{10 + n % 5}"))
            for n in range(IN_FLIGHT + QUEUED)
        ]
        asked = [asyncio.create_task(c.post("/predict", content=noise)) for c in clients]
        good = await stack.enter_async_context(client_at(shared, GOOD))
        while not all(task.done() for task in asked):
            assert await gauge(good, "body_bytes") <= ALL_BYTES
        assert {(await task).status_code for task in asked} == {415}
        assert await gauge(good, "body_bytes") == 0
    # A body is in memory twice while its pieces are joined.
    assert most_memory(shared) - before < 4 * ALL_BYTES


async def test_a_body_of_unknown_length_is_refused_when_memory_is_full(shared: Server) -> None:
    start = HEAD % b"Content-Length: %d" % UPLOAD_BYTES
    with ExitStack() as stack:
        for address in ("127.0.0.4", "127.0.0.5"):
            stack.enter_context(connection(shared.url, address)).sendall(start)
        async with client_at(shared, GOOD) as good:

            async def all_taken() -> bool:
                return await gauge(good, "body_bytes") == ALL_BYTES

            async def pieces() -> AsyncIterator[bytes]:
                yield bytes(MEGABYTE)

            await eventually(all_taken)
            answer = await good.post("/predict", content=pieces())
            assert (answer.status_code, answer.json()["error_type"]) == (429, "overloaded")
            assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("media", ["application/json", "text/plain", None])
def test_the_json_of_model_control_has_the_limit_too(shared: Server, media: str | None) -> None:
    headers = {"Authorization": f"Bearer {KEY}"} | ({"Content-Type": media} if media else {})
    url = f"{shared.url}/models/genre_features/load"
    for content in (json.dumps({"version": 1}).ljust(MEGABYTE).encode(), iter([bytes(MEGABYTE)])):
        answer = httpx.post(url, content=content, headers=headers, timeout=60)
        assert (answer.status_code, answer.json()["error_type"]) == (413, "payload_too_large")
    assert httpx.post(url, content=b"", headers=headers, timeout=60).status_code == 200
