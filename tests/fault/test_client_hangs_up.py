"""The work of a disconnected client is cancelled."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from harness.recordings import tone
from harness.serving import serving
from tests.gauges import gauge, until_inside


async def _computed(client: httpx.AsyncClient) -> float:
    return await gauge(client, 'stage_seconds_count{stage="front_end"}')


async def test_queued_requests_of_gone_clients_cost_nothing(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    # Minutes of sound take seconds of work: long enough to be in the way of those who leave.
    long = [tone(600.0, sample_rate=8_000, hz=250.0 + n) for n in range(2)]
    short = [tone(30.0, hz=350.0 + n) for n in range(8)]
    with serving(log, feature_cache_entries=0, max_in_flight=2) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            before = await _computed(client)
            stay = [
                asyncio.create_task(client.post("/predict", content=content)) for content in long
            ]
            await until_inside(client, worked_on=len(long))
            leave = [
                asyncio.create_task(client.post("/predict", content=content)) for content in short
            ]
            await until_inside(client, worked_on=len(long), waiting=len(short))
            assert not any(task.done() for task in stay), "the machine is too fast for this test"
            for task in leave:
                task.cancel()
            await asyncio.gather(*leave, return_exceptions=True)
            answers = await asyncio.gather(*stay)
            assert [answer.status_code for answer in answers] == [200, 200]
            assert (await client.post("/predict", content=tone(1.5))).status_code == 200
            assert await _computed(client) - before == 3
