"""A gateway that was killed is replaced by one that counts its own requests, with its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from bandstand_bentos.wiring import GATEWAY, PREPROCESSOR
from harness.recordings import tone
from harness.serving import Server, serving
from tests.bad_manners import stopped
from tests.gauges import gauge, until_inside


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(log, audio_url="off", feature_cache_entries=0, max_in_flight=1) as running:
        yield running


def check_no_url_is_fetched(server: Server) -> None:
    for path in ("/predict", "/detect/instruments", "/analyze/features"):
        for url in ("https://127.0.0.1/", "no url at all"):
            answer = httpx.post(server.url + path, json={"audio_url": url}, timeout=60)
            assert (answer.status_code, answer.json()["error_type"]) == (403, "audio_url_off")
    described = httpx.get(f"{server.url}/openapi.json", timeout=60)
    assert "audio_url" not in described.text


def test_with_audio_url_off_nothing_is_fetched(server: Server) -> None:
    check_no_url_is_fetched(server)


async def test_what_a_killed_gateway_held_is_not_counted_for_ever(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        killed = server.worker(GATEWAY)
        with stopped(server.worker(PREPROCESSOR)):
            asked = [
                asyncio.create_task(client.post("/predict", content=tone(1.0))) for _ in range(3)
            ]
            await until_inside(client, worked_on=1, waiting=2)
            assert await gauge(client, "body_bytes") > 0
            killed.kill()
            with suppress(httpx.TransportError):
                await asyncio.gather(*asked)
        await asyncio.to_thread(killed.wait)
        await asyncio.to_thread(server.wait_ready)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        for name in ("requests_in_flight", "requests_queued", "body_bytes"):
            assert await gauge(client, name) == 0
        assert (await client.post("/predict", content=tone(1.0))).status_code == 200
    check_no_url_is_fetched(server)
