"""`docs/performance.md`, rendered from the results of all benchmarks.

`python -m benchmarks.performance_page` writes it anew without measuring anything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.names import NAMES
from benchmarks.report import RESULTS, format_cell, table_lines
from harness import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "performance.md"
PROSE = Path(__file__).resolve().parent / "prose"
INTRO = "intro"
GOALS = "Goals"

_MOST_ROWS = 20
"""Of a table on the page; longer ones stand in the benchmark's own report."""
_STATES = {"met": "met", "missed": "**missed**"}


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark wrote; see `benchmarks.report.write_report`."""

    name: str
    title: str
    command: str
    machine: dict[str, Any]
    tables: list[dict[str, Any]]
    notes: list[str]

    @property
    def goals(self) -> list[list[Any]]:
        """Rows of what, measured, at most, and whether it is met."""
        return [row for table in self.tables if table["title"] == GOALS for row in table["rows"]]


def main() -> int:
    """Write the page."""
    write_page()
    print(PAGE)
    return 0


def write_page(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Render the results and write the page."""
    page.write_text(render(results), encoding="utf-8")


def render(results: Path = RESULTS) -> str:
    """Return the page of the results in a folder."""
    known = list(read_results(results))
    lines = [*_prose(INTRO), "## Goals", "", *_goals_lines(known), ""]
    missing = [name for name in NAMES if name not in {result.name for result in known}]
    if missing:
        lines += [f"Not measured yet: {', '.join(missing)}.", ""]
    for result in known:
        lines += _section_lines(result)
    return "\n".join(lines).rstrip() + "\n"


def read_results(results: Path) -> Iterator[Result]:
    """Yield the results that are there, in the order of the page."""
    for name in NAMES:
        path = results / f"{name}.json"
        if path.is_file():
            yield Result(name, **json.loads(path.read_text(encoding="utf-8")))


def _goals_lines(known: list[Result]) -> list[str]:
    rows = [
        (f"[{result.title}](#{_anchor(result.title)})", what, measured, most, _STATES[state])
        for result in known
        for what, measured, most, state in result.goals
    ]
    return table_lines(("benchmark", "", "measured", "at most", ""), rows)


def _section_lines(result: Result) -> list[str]:
    lines = [f"## {result.title}", "", *_prose(result.name)]
    for table in result.tables:
        if table["title"] != GOALS:
            lines += [f"**{table['title']}**", "", *_table(table, result.name), ""]
    lines += [f"- {note}" for note in result.notes]
    lines += [f"- `{result.command}` on {_hardware(result.machine)}", ""]
    return lines


def _table(table: dict[str, Any], name: str) -> list[str]:
    rows = table["rows"]
    if len(rows) > _MOST_ROWS:
        return [f"{len(rows)} rows: see [{name}](../benchmarks/results/{name}.md)."]
    return table_lines(table["columns"], rows)


def _hardware(machine: dict[str, Any]) -> str:
    """Return hardware, load and versions in one line."""
    flags = format_cell(machine["flags"])
    load = format_cell(machine["load_average"]) if "load_average" in machine else "not recorded"
    return (
        f"{machine['cores']} cores of {machine['cpu']} ({flags}), {machine['memory_gib']} GiB, "
        f"{machine['system']}; load average before: {load}; Python {machine['python']}, "
        f"{format_cell(machine['packages'])}."
    )


def _prose(name: str) -> list[str]:
    """Return what was written by hand about a benchmark, if anything."""
    path = PROSE / f"{name}.md"
    return [path.read_text(encoding="utf-8").rstrip(), ""] if path.is_file() else []


def _anchor(title: str) -> str:
    """Return the anchor that Markdown renderers give a heading."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


if __name__ == "__main__":
    sys.exit(main())
