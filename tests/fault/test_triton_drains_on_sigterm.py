"""SIGTERM under load for `bandstand triton`: requests in flight are answered, nothing remains.

Nothing remains after a kill -9 either.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from bandstand_client.contract.genre import GenreAnswer
from bandstand_client.errors import BandstandClientError
from bandstand_client.grpc import AsyncBandstandGrpc, BandstandGrpc
from harness import PROJECT_ROOT
from harness.recordings import tone
from harness.serving import STOP_SECONDS, free_port
from tests.triton_serving import embedded_repository

SHARED_MEMORY = "/dev/shm/"  # noqa: S108
START_SECONDS = 180.0
PORTS = ("http", "grpc", "metrics")


@contextmanager
def command(
    repository: Path, log: Path, **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, int]]]:
    """Run `bandstand triton` until the block ends; yield its process and its ports."""
    ports = {name: free_port() for name in PORTS}
    arguments = [f"--{name}-port={port}" for name, port in ports.items()]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "bandstand_cli",
                "triton",
                f"--repository={repository}",
                *arguments,
            ],
            cwd=PROJECT_ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with BandstandGrpc(f"127.0.0.1:{ports['grpc']}") as client:
            client.wait_ready(START_SECONDS)
        yield process, ports
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(STOP_SECONDS)


def shared_memory_of(processes: list[psutil.Process]) -> set[str]:
    """Return the files in shared memory that any of them maps."""
    return {
        region.path
        for process in processes
        for region in process.memory_maps()
        if region.path.startswith(SHARED_MEMORY)
    }


async def test_calls_in_flight_are_answered_and_nothing_is_left(tmp_path: Path) -> None:
    # Minutes of sound take seconds of work: some are being decoded at the signal, others wait.
    recordings = [tone(240.0, sample_rate=8_000, hz=300.0 + n) for n in range(6)]
    log = tmp_path / "log"
    repository = embedded_repository(tmp_path / "models").root
    with command(repository, log) as (process, ports):
        family = psutil.Process(process.pid).children(recursive=True)
        shared = shared_memory_of(family)
        assert shared
        async with AsyncBandstandGrpc(f"127.0.0.1:{ports['grpc']}", retries=0) as client:
            calls = [asyncio.create_task(client.classify(content)) for content in recordings]
            await asyncio.sleep(1.0)
            assert not all(call.done() for call in calls)
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            with pytest.raises(BandstandClientError):  # the door is closed to what comes now
                await client.classify(tone(1.0))
            answers = await asyncio.gather(*calls, return_exceptions=True)
        lost = [answer for answer in answers if not isinstance(answer, GenreAnswer)]
        assert lost == [], log.read_text()[-3000:]
        assert process.wait(STOP_SECONDS) == 0
    assert_nothing_is_left(family, shared, ports)


def test_a_killed_command_leaves_nothing(tmp_path: Path) -> None:
    repository = embedded_repository(tmp_path / "models").root
    with command(repository, tmp_path / "log", TMPDIR=str(tmp_path)) as (process, ports):
        family = psutil.Process(process.pid).children(recursive=True)
        shared = shared_memory_of(family)
        assert shared
        assert list(tmp_path.glob("bandstand-triton-*"))
        for each in family:  # Ctrl-C reaches the guardian at most before its owner
            if "guardian.py" in " ".join(each.cmdline()):
                each.send_signal(signal.SIGINT)
        process.kill()
        process.wait()
        assert_nothing_is_left(family, shared, ports, seconds=STOP_SECONDS)
        assert not list(tmp_path.glob("bandstand-triton-*"))


def assert_nothing_is_left(
    family: list[psutil.Process],
    shared: set[str],
    ports: Mapping[str, int],
    seconds: float = 10,
) -> None:
    _, alive = psutil.wait_procs(family, timeout=seconds)
    assert alive == []
    assert {path for path in shared if Path(path).exists()} == set()
    assert all(is_free(port) for port in ports.values())


def is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False
