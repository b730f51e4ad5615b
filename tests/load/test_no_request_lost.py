"""Many concurrent requests: each one gets an answer, and every refusal is a 429.

For a release: also if processes are killed all the time.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import psutil
import pytest

from bandstand_bentos.model_runner import SHARED_RUNNER
from bandstand_bentos.wiring import GATEWAY, PREPROCESSOR
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


REQUESTS, WARM_UP, CONCURRENCY = 10_000, 300, 64
KILL_EVERY_SECONDS = 10.0
SERVICES = (GATEWAY, PREPROCESSOR, SHARED_RUNNER)
RECORDINGS = [tone(1.0 + n / 40, sample_rate=16_000, hz=150.0 + 40 * n) for n in range(40)]
CACHED = len(RECORDINGS) // 2
"""Features of so many are in the cache: every other request needs the preprocessor."""
CHANCE = random.Random(7)  # noqa: S311
GROWTH, SLACK_BYTES = 1.10, 32 * 2**20


@dataclass
class Seen:
    """What clients saw: answers by recording, refusals, and when requests were lost."""

    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    lost: list[tuple[float, float]] = field(default_factory=list)

    def total(self) -> int:
        return len(self.answers) + len(self.refused) + len(self.lost)


async def _send(
    url: str, recordings: Sequence[int], seen: Seen, concurrency: int = CONCURRENCY
) -> None:
    """Send a request for each recording; none is sent twice."""
    todo = iter(recordings)

    async def worker(client: httpx.AsyncClient) -> None:
        for recording in todo:
            started = monotonic()
            try:
                answer = await client.post("/predict", content=RECORDINGS[recording])
            except httpx.TransportError:
                seen.lost.append((started, monotonic()))
                continue
            if answer.status_code == 200:
                seen.answers.append((recording, answer.json()))
            else:
                seen.refused.append(answer.text)

    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        await asyncio.gather(*(worker(client) for _ in range(concurrency)))


def _any_recordings(requests: int) -> Sequence[int]:
    return CHANCE.choices(range(len(RECORDINGS)), k=requests)


def _at_random() -> Iterator[str]:
    """Give each service once, in a random order, again and again."""
    while True:
        yield from CHANCE.sample(SERVICES, len(SERVICES))


async def _kill(server: Server, kills: list[tuple[str, float, float]]) -> None:
    """Kill one process every few seconds; add what, and between when and when it ended."""
    for service in _at_random():
        await asyncio.sleep(KILL_EVERY_SECONDS)
        try:
            process = server.worker(service)
        except LookupError:  # it is being replaced
            continue
        began = monotonic()
        process.kill()
        try:
            await asyncio.to_thread(psutil.wait_procs, [process])
        finally:
            kills.append((service, began, monotonic()))


async def _pss(server: Server) -> int:
    """Return the memory of all processes in bytes, when each of them has worked."""
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        await until_ready(client)
    warm = Seen()
    await _send(server.url, _any_recordings(WARM_UP), warm)
    assert len(warm.answers) == WARM_UP
    return sum(process.memory_full_info().pss for process in server.processes())


@pytest.mark.release
@pytest.mark.alone
async def test_processes_are_killed_and_nothing_else_is_lost(tmp_path: Path) -> None:
    kills: list[tuple[str, float, float]] = []
    expected, seen = Seen(), Seen()
    log = tmp_path / "server.log"
    # All ask for one model: it may have all places.
    with serving(log, feature_cache_entries=CACHED, model_share=1.0) as server:
        await _send(server.url, range(len(RECORDINGS)), expected, concurrency=1)
        scores = {number: answer["all_scores"] for number, answer in expected.answers}
        assert len(scores) == len(RECORDINGS)
        memory = []
        for requests in (REQUESTS // 5, REQUESTS - REQUESTS // 5):
            killing = asyncio.create_task(_kill(server, kills))
            await _send(server.url, _any_recordings(requests), seen)
            killing.cancel()
            memory.append(await _pss(server))
    assert seen.total() == REQUESTS
    assert seen.refused == []
    gateway_kills = [(began, ended) for name, began, ended in kills if name == GATEWAY]
    assert {name for name, _, _ in kills} == set(SERVICES), "it was over before each was killed"
    unexplained = [
        lost
        for lost in seen.lost
        if not any(lost[0] <= ended and lost[1] >= began for began, ended in gateway_kills)
    ]
    assert unexplained == [], "only what a killed gateway held may be lost"
    assert len(seen.lost) <= CONCURRENCY * len(gateway_kills)
    wrong = [
        (number, answer)
        for number, answer in seen.answers
        if answer["all_scores"] != pytest.approx(scores[number], abs=1e-3)
    ]
    assert wrong == []
    assert memory[1] <= memory[0] * GROWTH + SLACK_BYTES
