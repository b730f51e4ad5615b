"""Starts a peer in separate processes, and stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from benchmarks.processes import Endpoint
from harness import PROJECT_ROOT
from harness.serving import free_port

_USE_LIBROSA = ("fastapi_plain", "litserve_plain")
_START_SECONDS = 180.0
_STOP_SECONDS = 30.0


@contextmanager
def running_peer(module: str, model: Path, workers: int) -> Iterator[Endpoint]:
    """Run `benchmarks.peers.<module>` with that model until the block ends.

    Raises:
        RuntimeError: it does not get ready; the message has the end of its log.
    """
    port = free_port()
    command = [sys.executable, "-m", f"benchmarks.peers.{module}", "--port", str(port)]
    command += ["--model", str(model), "--workers", str(workers)]
    with tempfile.TemporaryDirectory() as compiled, tempfile.TemporaryFile() as log:
        environment = {**os.environ, "NUMBA_CACHE_DIR": compiled}
        if module in _USE_LIBROSA:
            _compile_librosa(model, environment)
        process = subprocess.Popen(
            command,
            cwd=PROJECT_ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            if not _gets_ready(process, url):
                log.seek(0)
                raise RuntimeError(f"{module} does not answer:\n{log.read().decode()[-4000:]}")
            top = psutil.Process(process.pid)
            yield Endpoint(url, [top, *top.children(recursive=True)])
            process.send_signal(signal.SIGTERM)
            process.wait(_STOP_SECONDS)
        finally:
            _kill_what_is_left(process)


def _compile_librosa(model: Path, environment: dict[str, str]) -> None:
    """Use the model once in one process, which leaves librosa's loops compiled for the workers.

    Workers that compile them at once leave a cache that crashes whoever reads it.
    """
    use = (
        "import sys; from pathlib import Path; from benchmarks.peers.plain_librosa import "
        "GenreModel; GenreModel(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", use, str(model)]
    subprocess.run(command, cwd=PROJECT_ROOT, env=environment, check=True)


def _gets_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5.0).is_success:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    return False


def _kill_what_is_left(process: subprocess.Popen[bytes]) -> None:
    """Kill the session that was started for the peer; usually nothing of it is left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait(_STOP_SECONDS)
