"""SIGTERM under load: requests in flight are answered, and no process remains."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from bandstand_bentos.wiring import PREPROCESSOR
from harness.recordings import tone
from harness.serving import Server, serving
from tests.gauges import until_inside

BUSY = "while True: pass"


@contextmanager
def busy_machine(processes: int) -> Iterator[None]:
    """Keep the machine busy with that many processes until the block ends."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def sockets_of_workers(server: Server) -> set[Path]:
    found = psutil.Process(server.process.pid).net_connections("unix")
    return {Path(each.laddr) for each in found if each.laddr.endswith(".sock")}


async def sockets_outlive(sockets: set[Path], requests: list[asyncio.Task[httpx.Response]]) -> None:
    """Check that the gateway can call workers until it has sent the last answer."""
    while not all(request.done() for request in requests):
        there = await asyncio.to_thread(lambda: all(path.exists() for path in sockets))
        _, waiting = await asyncio.wait(requests, timeout=0.1 if there else 1.0)
        assert there or not waiting, "the workers' sockets were removed during the drain"


@pytest.mark.parametrize("busy", [pytest.param(0, marks=pytest.mark.release), 3])
async def test_requests_in_flight_are_answered(tmp_path: Path, busy: int) -> None:
    # Minutes of sound take seconds of work: all are in the preprocessor, before the model, at the
    # signal.
    recordings = [tone(200.0, sample_rate=8_000, hz=300.0 + n) for n in range(6)]
    # However busy the machine is: the bounds are not what is tested.
    bounds = {"drain_seconds": 180, "request_deadline_seconds": 180}
    log = tmp_path / "server.log"
    with (
        serving(log, feature_cache_entries=0, **bounds) as server,
        busy_machine(busy),
    ):
        family, sockets = server.processes(), sockets_of_workers(server)
        assert sockets
        async with httpx.AsyncClient(base_url=server.url, timeout=180) as client:
            requests = [
                asyncio.create_task(client.post("/predict", content=content))
                for content in recordings
            ]
            await until_inside(client, worked_on=len(recordings))
            assert not any(request.done() for request in requests)
            assert server.worker(PREPROCESSOR).is_running()
            server.process.send_signal(signal.SIGTERM)
            await sockets_outlive(sockets, requests)
            answers = await asyncio.gather(*requests)
        refused = [answer.text for answer in answers if answer.status_code != 200]
        assert refused == [], server.log.read_text()[-3000:]
        assert server.process.wait(180) == 0
        gone, alive = psutil.wait_procs(family, timeout=5)
        assert alive == []
        assert len(gone) == len(family)
        assert not any(path.parent.exists() for path in sockets)
