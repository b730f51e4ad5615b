"""A server for tests: started as a user starts it, on a free port, and stopped at the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from bandstand_client.http import Bandstand
from harness import PROJECT_ROOT

# A timeout for failures only, so that a busy machine does not fail a test.
START_SECONDS = 300.0
STOP_SECONDS = 120.0


def free_port() -> int:
    """Return a port that no process uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Server:
    """A running `bandstand serve`; `start_seconds`: from its start until it was ready."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    start_seconds: float = 0.0

    def worker(self, service: str) -> psutil.Process:
        """Return the process of one service, by its BentoML name."""
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                command = child.cmdline()
                if child.status() != psutil.STATUS_ZOMBIE and service in command:
                    return child
        raise LookupError(service)

    def processes(self) -> list[psutil.Process]:
        """Return the supervisor and all its workers."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def wait_ready(self) -> None:
        """Wait until the server is ready."""
        with Bandstand(self.url) as client:
            client.wait_ready(START_SECONDS)


@contextmanager
def serving(log: Path, **settings: object) -> Iterator[Server]:
    """Run a server with these settings (`max_in_flight=2` …) until the block ends.

    All its clients have one address, as behind a proxy, so one client's share is the whole.
    """
    port = free_port()
    settings = {"client_share": 1.0, **settings}
    given = {f"BANDSTAND_{name.upper()}": str(value) for name, value in settings.items()}
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bandstand_cli", "serve", "--port", str(port)],
            cwd=PROJECT_ROOT,
            env={**os.environ, **given},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}", process, log)
    try:
        try:
            server.wait_ready()
        except Exception as error:
            raise RuntimeError(f"no server; its log ends:\n{log.read_text()[-4000:]}") from error
        yield replace(server, start_seconds=time.monotonic() - started)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
