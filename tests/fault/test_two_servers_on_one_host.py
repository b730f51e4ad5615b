"""Two servers of one user do not delete or show each other's metrics."""

from __future__ import annotations

from pathlib import Path

import httpx

from bandstand_client.http import Bandstand
from harness.serving import Server, serving

SAMPLE = "band_groove.ogg"
COUNTED = 'bandstand_request_seconds_count{method="POST",route="/predict",status="200"}'


def predictions(server: Server) -> float:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(COUNTED))


def test_metrics_are_each_servers_own(server: Server, tmp_path: Path, samples_dir: Path) -> None:
    before = predictions(server)
    with Bandstand(server.url) as client:
        client.classify(samples_dir / SAMPLE)
    assert predictions(server) == before + 1
    with serving(tmp_path / "second.log") as second:
        assert predictions(second) == 0
        assert predictions(server) == before + 1
