"""The code blocks of docs/training.md and docs/load-testing.md run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import PROJECT_ROOT
from harness.serving import serving
from tests.feature_tables import feature_rows, label_rows, write_csv
from tests.genre_models import CLASSES, small_table

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((PROJECT_ROOT / "docs" / page).read_text(encoding="utf-8"))


def run(language: str, code: str, folder: Path) -> str:
    """Run a block in a folder where the samples are, and return what it printed."""
    if not (folder / "samples").exists():
        (folder / "samples").symlink_to(PROJECT_ROOT / "samples")
    command = [sys.executable, "-c", code]
    if language == "sh":
        command = ["bash", "-euo", "pipefail", "-c", code]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_model_is_fitted_and_used_as_the_page_says(tmp_path: Path) -> None:
    table = small_table(rows_per_class=10)
    write_csv(tmp_path / "features.csv", feature_rows(table))
    write_csv(tmp_path / "labels.csv", label_rows(table))
    (command, *used) = blocks("training.md")
    assert command[0] == "sh"
    outputs = [run(language, code, tmp_path) for language, code in (command, *used)]
    assert "my_moods-v1.safetensors" in outputs[0]
    assert len(outputs) == 4
    for output in outputs:
        assert any(name in output for name in CLASSES)
    assert (tmp_path / "my_moods-v2.safetensors").is_file()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path / "server.log", feature_cache_entries=0) as server:
        yield server.url


def test_a_load_test_runs_from_python_as_the_page_says(tmp_path: Path, url: str) -> None:
    ((language, code),) = blocks("load-testing.md")
    code = code.replace("http://127.0.0.1:3000", url).replace(
        "seconds=20, fewest=100", "seconds=1, fewest=4"
    )
    output = run(language, code, tmp_path).splitlines()
    assert [line.partition(" in flight")[0] for line in output[:3]] == ["1", "4", "16"]
    assert len(output) == 4
