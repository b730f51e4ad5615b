"""Every `sh` and `python` block of both READMEs runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bandstand.triton.server import TritonServer
from harness import PROJECT_ROOT
from harness.serving import Server

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = ("README.md", "clients/README.md")
BLOCKS = [
    block
    for page in PAGES
    for block in BLOCK.findall((PROJECT_ROOT / page).read_text(encoding="utf-8"))
]


@dataclass(frozen=True)
class Servers:
    """Where what the README says of the usual addresses is true."""

    http: str
    grpc: str


@pytest.fixture(scope="module")
def servers(triton_server: TritonServer, uncached_server: Server) -> Servers:
    return Servers(uncached_server.url, triton_server.grpc_address)


def run(language: str, code: str, servers: Servers) -> str:
    code = code.replace("127.0.0.1:8001", servers.grpc)
    if "bandstand bench" in code:
        code = code.replace(" samples", f" samples --server {servers.http}")
    code = code.replace("http://127.0.0.1:3000", servers.http)
    command = ["bash", "-euo", "pipefail", "-c", code]
    if language == "python":
        command = [sys.executable, "-c", code]
    bin_dir = Path(sys.executable).parent
    done = subprocess.run(
        command,
        cwd=PROJECT_ROOT,
        env={**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_there_are_blocks_to_run() -> None:
    assert {language for language, _ in BLOCKS} == {"sh", "python"}
    assert len(BLOCKS) >= 4


@pytest.mark.parametrize(
    ("language", "code"), BLOCKS, ids=[f"block{i}" for i in range(len(BLOCKS))]
)
def test_block_runs(language: str, code: str, servers: Servers) -> None:
    output = run(language, code, servers)
    assert output.strip(), "a block that prints nothing teaches nothing"
    assert '"error_type"' not in output


def test_the_shown_answer_is_the_real_one(servers: Servers) -> None:
    """The README's JSON answer is what the server says of that sample, but for the timings."""
    readme = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"^```json\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert shown is not None
    command = next(c for _, c in BLOCKS if "/predict" in c).splitlines()[0]
    answer = run("sh", command, servers)
    assert _without_timings(answer) == _without_timings(shown.group(1))


def _without_timings(text: str) -> object:
    import json

    content = json.loads(text)
    content.pop("timings_ms")
    rounded = json.dumps(content)
    # Scores differ in the last digits between CPUs.
    return json.loads(rounded, parse_float=lambda number: round(float(number), 2))
