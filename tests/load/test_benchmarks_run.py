"""The benchmarks run and report figures; how good the figures are is not for a test to say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bandstand.settings import PROJECT_ROOT

# Small enough for a test: the whole way of the benchmark with next to no work.
OPTIONS = {
    "overhead": ["--rounds", "1", "--requests", "2", "--no-peers"],
    "endurance": ["--requests", "12", "--concurrency", "4"],
}
Tables = dict[str, list[list[Any]]]


def run(name: str, results: Path) -> tuple[int, Tables]:
    """Run a benchmark; return its exit code and the rows of its tables, by title."""
    options = [*OPTIONS[name], "--results", str(results)]
    ended = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    report = results / f"{name}.json"
    assert report.exists(), ended.stderr[-3000:]
    assert (results / f"{name}.md").read_text() in ended.stdout
    content = json.loads(report.read_text())
    return ended.returncode, {table["title"]: table["rows"] for table in content["tables"]}


@pytest.mark.usefixtures("data_dir")
def test_overhead_measures_every_contender(tmp_path: Path) -> None:
    code, tables = run("overhead", tmp_path)
    assert code == int(any(row[-1] == "missed" for row in tables["Goals"]))
    assert len(tables["Overhead: CPU ms a request over the pipeline in process"]) == 7
    assert len(tables["CPU ms a request"]) == 9
    for _name, per_second, median, *_ in tables["CPU ms a request"]:
        assert per_second > 0
        assert median > 0
    servers = tables["Servers of the same model side by side"]
    assert len(servers) == 2
    assert all(figure > 0 for row in servers for figure in row[1:])


@pytest.mark.usefixtures("data_dir")
def test_endurance_counts_answers_and_memory(tmp_path: Path) -> None:
    code, tables = run("endurance", tmp_path)
    assert code == int(any(row[-1] == "missed" for row in tables["Goals"]))
    assert [row[1] for row in tables["Answers by status"]] == [6, 6]  # 200s
    *processes, total, _proportional = tables["Memory (USS, MiB)"]
    assert len(processes) >= 4  # supervisor, gateway, preprocessor, a runner
    assert all(figure > 0 for row in processes for figure in row[1:])
    assert total[1] == pytest.approx(sum(row[1] for row in processes), rel=0.01)
