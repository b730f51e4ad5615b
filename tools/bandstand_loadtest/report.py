"""The report of a load test, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bandstand_loadtest.clips import ClipStatistics
from bandstand_loadtest.figures import format_figure
from bandstand_loadtest.machine import Machine
from bandstand_loadtest.runs import Check, Run
from bandstand_loadtest.scenarios import Plan
from bandstand_loadtest.targets.base import ServerMetadata

FORMAT = 1
"""Increased when a field of the JSON changes its meaning or is removed."""


@dataclass(frozen=True, slots=True)
class Report:
    """A finished load test.

    Attributes:
        started: date and time, with the zone.
        command: the command line of the test.
        server: metadata of the server.
        same_host: whether server and load generator shared the machine.
        machine: that sent the load.
        clips: statistics of the recordings.
        plan: durations and bounds.
        runs: in the order of execution.
        searched: whether the highest rate was searched.
        highest_rate: the result of the search, requests a second.
    """

    started: str
    command: str
    server: ServerMetadata
    same_host: bool
    machine: Machine
    clips: ClipStatistics
    plan: Plan
    runs: Sequence[Run]
    searched: bool = False
    highest_rate: float | None = None

    @property
    def missed(self) -> list[tuple[Run, Check]]:
        """The missed checks, without those of a search's probes."""
        return [
            (run, check)
            for run in self.runs
            if not run.probe
            for check in run.checks
            if not check.holds
        ]

    @property
    def passed(self) -> bool:
        """Whether all checks passed, and a search found a rate."""
        return not self.missed and not (self.searched and self.highest_rate is None)

    @property
    def misses(self) -> list[str]:
        """The reasons why it did not pass, one line each."""
        lines = [
            f"{run.scenario}, {run.load}: {check.about}, {check.name} "
            f"{format_figure(check.measured)}{check.unit and ' ' + check.unit} "
            f"({check.relation} {format_figure(check.bound)})"
            for run, check in self.missed
        ]
        if self.searched and self.highest_rate is None:
            lines.append("no rate was found within the bounds and confirmed")
        return lines

    def of(self, scenario: str) -> list[Run]:
        """Return the runs of one scenario, without a search's probes."""
        return [run for run in self.runs if run.scenario == scenario and not run.probe]

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values, including computed figures."""
        content = {"format": FORMAT, "passed": self.passed, **asdict(self)}
        content["runs"] = [_run_as_json(run) for run in self.runs]
        return content

    def write_json(self, path: Path) -> None:
        """Write it to a file.

        Raises:
            OSError: the file cannot be written.
        """
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")


def _run_as_json(run: Run) -> dict[str, Any]:
    content = asdict(run)
    content["checks"] = [
        {**asdict(check), "measured": _finite(check.measured), "holds": check.holds}
        for check in run.checks
    ]
    return {
        **content,
        "answered": run.answered,
        "requests_per_second": run.requests_per_second,
        "audio_seconds_per_second": run.audio_seconds_per_second,
        "holds": run.holds,
    }


def _finite(value: float) -> float | None:
    """Return None for infinity, which JSON does not have."""
    return value if value < float("inf") else None
