"""BentoML's own commands: `bentoml serve` in the checkout, `bentoml build` and its archive."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bandstand_client.http import Bandstand
from harness import PROJECT_ROOT
from harness.serving import START_SECONDS, STOP_SECONDS, free_port


def _bentoml(home: Path, *command: str, cwd: Path) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "bentoml", *command],
        cwd=cwd,
        env={**os.environ, "BENTOML_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


@contextmanager
def _served(target: str, home: Path, cwd: Path, log: Path, **environment: str) -> Iterator[str]:
    """Run `bentoml serve`, as someone does who knows nothing of `bandstand serve`."""
    port = free_port()
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("BANDSTAND_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bentoml", "serve", target),
                *("--port", str(port), "--host", "127.0.0.1"),
            ],
            cwd=cwd,
            env={**inherited, "BENTOML_HOME": str(home), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _assert_same_scores(url: str, server_url: str, sample: Path) -> None:
    with Bandstand(url) as client:
        client.wait_ready(START_SECONDS)
        ours = client.classify(sample)
    theirs = httpx.post(f"{server_url}/predict", content=sample.read_bytes()).json()
    assert ours.all_scores == theirs["all_scores"]


def test_archive_answers_the_same(tmp_path: Path, server_url: str, samples_dir: Path) -> None:
    archive = tmp_path / "bandstand.bento"
    build_home, serve_home = tmp_path / "build", tmp_path / "serve"
    tag = _bentoml(build_home, "build", "-o", "tag", cwd=PROJECT_ROOT).strip().split(":", 1)[-1]
    tag = tag.removeprefix("__tag__:")
    _bentoml(build_home, "export", tag, str(archive), cwd=tmp_path)
    _bentoml(serve_home, "import", str(archive), cwd=tmp_path)
    log = tmp_path / "server.log"
    with _served(tag, serve_home, tmp_path, log, PYTHONSAFEPATH="1") as url:
        _assert_same_scores(url, server_url, samples_dir / "band_groove.ogg")
        assert httpx.get(f"{url}/docs").status_code == 200, "the page's files are no part of it"


def test_the_checkout_answers_the_same(tmp_path: Path, server_url: str, samples_dir: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "server.log"
    with _served("bentos.service:Bandstand", home, PROJECT_ROOT, log) as url:
        _assert_same_scores(url, server_url, samples_dir / "band_groove.ogg")
