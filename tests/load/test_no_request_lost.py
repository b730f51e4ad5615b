"""Many concurrent requests: each one gets an answer, and every refusal is a 429."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx

from harness.recordings import tone
from harness.serving import Server, serving
from tests.gauges import until_inside, until_ready


async def _statuses(url: str, requests: int, concurrency: int) -> Counter[int]:
    seen: Counter[int] = Counter()
    todo = iter(range(requests))

    async def worker(client: httpx.AsyncClient) -> None:
        for number in todo:
            answer = await client.post("/predict", content=tone(1.0, hz=200.0 + number))
            seen[answer.status_code] += 1

    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        await asyncio.gather(*(worker(client) for _ in range(concurrency)))
    return seen


async def test_nothing_is_lost_at_concurrency_32(uncached_server: Server) -> None:
    # More than the 100 calls after which a connection used to be closed under others.
    assert await _statuses(uncached_server.url, requests=300, concurrency=32) == {200: 300}


async def test_a_full_house_refuses_with_429(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with serving(log, feature_cache_entries=0, max_in_flight=1, max_queued=2) as server:
        seen = await _statuses(server.url, requests=80, concurrency=16)
        assert set(seen) == {200, 429}
        assert seen.total() == 80
        async with httpx.AsyncClient(base_url=server.url) as client:
            refused = [
                r
                for r in await asyncio.gather(
                    *(client.post("/predict", content=tone(2.0, hz=900.0 + n)) for n in range(8))
                )
                if r.status_code == 429
            ]
        assert refused
        assert all(r.headers["retry-after"] == "1" for r in refused)
        assert all(r.json()["error_type"] == "overloaded" for r in refused)


async def test_a_short_deadline_is_told_as_504(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with serving(log, feature_cache_entries=0, request_deadline_seconds=0.2) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            answer = await client.post("/predict", content=tone(300.0))
            assert (answer.status_code, answer.json()["error_type"]) == (504, "deadline_exceeded")
            await until_inside(client, worked_on=0)
            await until_ready(client)
