"""What the README tells people to paste is true: every `sh` and `python` block of it runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bandstand.settings import PROJECT_ROOT

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((PROJECT_ROOT / "README.md").read_text(encoding="utf-8"))


def run(language: str, code: str, url: str) -> str:
    code = code.replace("http://127.0.0.1:3000", url)
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
def test_block_runs(language: str, code: str, server_url: str) -> None:
    output = run(language, code, server_url)
    assert output.strip(), "a block that prints nothing teaches nothing"
    assert '"error_type"' not in output


def test_the_shown_answer_is_the_real_one(server_url: str) -> None:
    """The README's JSON answer is what the server says of that sample, but for the timings."""
    readme = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"^```json\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert shown is not None
    command = next(c for _, c in BLOCKS if "/predict" in c).splitlines()[0]
    answer = run("sh", command, server_url)
    assert _without_timings(answer) == _without_timings(shown.group(1))


def _without_timings(text: str) -> object:
    import json

    content = json.loads(text)
    content.pop("timings_ms")
    rounded = json.dumps(content)
    # Scores differ in the last digits between CPUs.
    return json.loads(rounded, parse_float=lambda number: round(float(number), 2))
