"""docs/performance.md is up to date with the committed results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.goals import Goal, goals_table, misses
from benchmarks.names import NAMES
from benchmarks.performance_page import PAGE, read_results, render
from benchmarks.report import RESULTS, Table, write_report


@pytest.fixture
def missed(tmp_path: Path) -> Path:
    """Results of one benchmark that missed one of its two goals."""
    goals = [
        Goal("milliseconds of the best", 3.0, 2.0, "The machine is small."),
        Goal("failures", 0, 0),
    ]
    tables = [goals_table(goals), Table("Long", ("a",), [(1,)] * 100)]
    write_report(NAMES[0], "A title, of one", "make it", tables, misses(goals), directory=tmp_path)
    return tmp_path


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(RESULTS), (
        "run: python -m benchmarks.performance_page"
    )


def test_every_result_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for result in read_results(RESULTS):
        assert f"\n## {result.title}\n" in page
        assert result.command in page
        for what, *_, state in result.goals:
            assert state in ("met", "missed")
            assert f"| {what} |" in page


def test_a_missed_goal_is_shown_with_its_reason(missed: Path) -> None:
    page = render(missed)
    assert "| 3 | 2 | **missed** |" in page
    assert "| failures | 0 | 0 | met |" in page
    assert "The machine is small." in page
    assert "(#a-title-of-one)" in page


def test_load_and_versions_stand_beside_the_figures(missed: Path) -> None:
    (result,) = read_results(missed)
    page = render(missed)
    machine = json.loads((missed / f"{NAMES[0]}.json").read_text())["machine"]
    load = " ".join(map(str, machine["load_average"]))
    assert f"load average before: {load}; Python {machine['python']}, bandstand " in page
    assert result.machine == machine
    assert "100 rows: see [" in page
    assert f"Not measured yet: {', '.join(NAMES[1:])}." in page
