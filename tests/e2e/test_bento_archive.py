"""`bentoml build` makes an archive that, served, answers as the checkout does."""

from __future__ import annotations

import os
import subprocess
import sys
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


def test_archive_answers_the_same(tmp_path: Path, server_url: str, samples_dir: Path) -> None:
    archive = tmp_path / "bandstand.bento"
    build_home, serve_home = tmp_path / "build", tmp_path / "serve"
    tag = _bentoml(build_home, "build", "-o", "tag", cwd=PROJECT_ROOT).strip().split(":", 1)[-1]
    tag = tag.removeprefix("__tag__:")
    _bentoml(build_home, "export", tag, str(archive), cwd=tmp_path)
    _bentoml(serve_home, "import", str(archive), cwd=tmp_path)
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BANDSTAND_")}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bentoml", "serve", tag),
                *("--port", str(port), "--host", "127.0.0.1"),
            ],
            cwd=tmp_path,
            env={**environment, "BENTOML_HOME": str(serve_home), "PYTHONSAFEPATH": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        sample = samples_dir / "band_groove.ogg"
        with Bandstand(f"http://127.0.0.1:{port}") as client:
            client.wait_ready(START_SECONDS)
            ours = client.classify(sample)
        theirs = httpx.post(f"{server_url}/predict", content=sample.read_bytes()).json()
        assert ours.all_scores == theirs["all_scores"]
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)
