"""`bandstand serve` is killed with -9: its processes finish what they have, and nothing remains."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import psutil
import pytest

from harness.recordings import tone
from harness.serving import STOP_SECONDS, Server, serving
from tests.gauges import eventually, until_inside


def folders_of(server: Server) -> set[Path]:
    """Return the folders of the supervisor's own sockets and of those of its workers."""
    found = psutil.Process(server.process.pid).net_connections("unix")
    return {Path(each.laddr).parent for each in found if each.laddr}


async def test_requests_in_flight_are_answered_and_nothing_remains(tmp_path: Path) -> None:
    # Minutes of sound take seconds of work: all are in the preprocessor when the supervisor dies.
    recordings = [tone(240.0, sample_rate=8_000, hz=300.0 + n) for n in range(4)]
    bounds = {"drain_seconds": 180, "request_deadline_seconds": 180}
    with serving(tmp_path / "server.log", feature_cache_entries=0, **bounds) as server:
        family, folders = server.processes(), folders_of(server)
        assert len(folders) == 2
        async with httpx.AsyncClient(base_url=server.url, timeout=180) as client:
            requests = [
                asyncio.create_task(client.post("/predict", content=content))
                for content in recordings
            ]
            await until_inside(client, worked_on=len(recordings))
            server.process.kill()
            answers = await asyncio.gather(*requests)
        refused = [answer.text for answer in answers if answer.status_code != 200]
        assert refused == [], server.log.read_text()[-3000:]
        _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
        assert alive == []
        assert [folder for folder in folders if folder.exists()] == []
        port = int(server.url.rpartition(":")[2])
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, "something still listens"


@pytest.mark.release
async def test_those_that_were_idle_end_soon(tmp_path: Path) -> None:
    with serving(tmp_path / "server.log") as server:
        family = server.processes()
        server.process.kill()

        async def refused() -> bool:
            async with httpx.AsyncClient(base_url=server.url) as client:
                try:
                    await client.get("/livez")
                except httpx.TransportError:
                    return True
                return False

        await eventually(refused)
        _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
        assert alive == []
