"""The steps of docs/adding.md add an operation to the server, the clients and the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from harness import PROJECT_ROOT
from harness.serving import START_SECONDS, STOP_SECONDS, free_port

MOST_FILES = 8
ALSO = {"CHANGELOG.md"}
PACKAGES = ("", "clients", "bentos", "exporters", "training", "tools")
BLOCK = re.compile(
    r'^ *```(?:python|text) title="(?P<path>[^"]+)"(?: after="(?P<after>[^"]+)")?\n'
    r"(?P<code>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Walk:
    """A copy of the checkout in which the page's steps were taken."""

    root: Path
    touched: set[str]

    @property
    def environment(self) -> dict[str, str]:
        folders = os.pathsep.join(str(self.root / package) for package in PACKAGES)
        return {**os.environ, "PYTHONPATH": folders, "PYTHONSAFEPATH": "1"}

    def python(self, *arguments: str) -> str:
        run = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root.parent,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-3000:]
        return run.stdout


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    root = tmp_path_factory.mktemp("walk") / "checkout"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    kept = ["bandstand", "model_repository", "samples", "pyproject.toml", *PACKAGES[1:]]
    files = subprocess.run(
        [*listing, "--", *kept], cwd=PROJECT_ROOT, capture_output=True, check=True
    )
    for name in filter(None, files.stdout.decode().split("\0")):
        if (source := PROJECT_ROOT / name).is_file():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    page = (PROJECT_ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    touched = set(ALSO)
    for block in BLOCK.finditer(page):
        _apply(root / block["path"], block["after"], textwrap.dedent(block["code"]))
        touched.add(block["path"])
    return Walk(root, touched)


def _apply(path: Path, after: str | None, code: str) -> None:
    if after is None:
        assert not path.exists(), f"{path.name} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    assert text.count(f"{after}\n") == 1, f"{after!r} is not one line of {path.name}"
    indent = after[: len(after) - len(after.lstrip())]
    lines = textwrap.indent(textwrap.dedent(code), indent)
    path.write_text(text.replace(f"{after}\n", f"{after}\n{lines}"), encoding="utf-8")


@pytest.fixture(scope="module")
def address(walk: Walk) -> Iterator[str]:
    port = free_port()
    log = walk.root.parent / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bandstand_cli", "serve", "--port", str(port)],
            cwd=walk.root.parent,
            env=walk.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        code = f"""
from bandstand_client import Bandstand
with Bandstand("http://127.0.0.1:{port}") as client:
    client.wait_ready({START_SECONDS})
"""
        walk.python("-c", code)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)


def test_it_takes_few_files(walk: Walk) -> None:
    assert 4 < len(walk.touched) <= MOST_FILES
    assert any(path.startswith("tests/") for path in walk.touched)


def test_the_route_answers_and_refuses(walk: Walk, address: str) -> None:
    audio = (walk.root / "samples" / "band_groove.ogg").read_bytes()
    answer = httpx.post(f"{address}/analyze/tempo?digits=0", content=audio, timeout=60).json()
    assert answer["tempo_bpm"] == pytest.approx(112, rel=0.06)
    for query in ("digits=9", "digit=1"):
        refusal = httpx.post(f"{address}/analyze/tempo?{query}", content=audio)
        assert (refusal.status_code, refusal.json()["error_type"]) == (400, "malformed_request")
    described = httpx.get(f"{address}/openapi.json").json()["paths"]["/analyze/tempo"]["post"]
    (parameter,) = described["parameters"]
    assert (parameter["name"], parameter["schema"]["maximum"]) == ("digits", 3)


def test_the_clients_have_the_method(walk: Walk, address: str) -> None:
    code = f"""
import asyncio

from bandstand_client import AsyncBandstand, Bandstand
sample = "{walk.root / "samples" / "band_groove.ogg"}"
with Bandstand("{address}") as client:
    first = client.analyze_tempo(sample, digits=2)
async def main():
    async with AsyncBandstand("{address}") as client:
        return [answer async for _, answer in client.analyze_tempo.many([sample], digits=2)]
assert [first.tempo_bpm] == [answer.tempo_bpm for answer in asyncio.run(main())]
print(first.tempo_bpm)
"""
    assert float(walk.python("-c", code)) == pytest.approx(112, rel=0.06)


def test_the_command_is_there(walk: Walk) -> None:
    sample = str(walk.root / "samples" / "band_groove.ogg")
    run = ("-m", "bandstand_cli", "tempo", sample, "--digits", "0")
    assert "tempo_bpm" in walk.python(*run)
    assert json.loads(walk.python(*run, "--json"))["tempo_bpm"] == pytest.approx(112, rel=0.06)
    assert "--digits" in walk.python("-m", "bandstand_cli", "tempo", "--help")


def test_triton_gets_its_model(walk: Walk) -> None:
    code = """
from bandstand.triton.audio_models import AUDIO_MODELS
from bandstand.triton.config import audio_model_config, to_text
layout = AUDIO_MODELS["analyze_tempo"]
print(to_text(audio_model_config(layout)), layout.code)
"""
    written = walk.python("-c", code)
    assert 'name: "options"' in written
    assert 'operation_model("analyze_tempo")' in written
