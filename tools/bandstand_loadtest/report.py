"""All of a load test in one value, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bandstand_loadtest.clips import ClipStatistics
from bandstand_loadtest.figures import said
from bandstand_loadtest.machine import Machine
from bandstand_loadtest.runs import Check, Run
from bandstand_loadtest.scenarios import Plan
from bandstand_loadtest.targets.base import ServerMetadata

FORMAT = 1
"""Raised when a field of the JSON changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class Report:
    """A finished load test.

    Attributes:
        started: date and time, with the zone.
        command: what makes these numbers again.
        server: what was tested.
        same_host: whether server and load generator shared the machine.
        machine: where the load came from.
        clips: what was sent.
        plan: how long, and held to what.
        runs: in the order they were made.
        searched: whether a highest rate was looked for.
        highest_rate: what was found, requests a second.
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
        """What does not hold; a search's tries are there to fail."""
        return [
            (run, check)
            for run in self.runs
            if not run.probe
            for check in run.checks
            if not check.holds
        ]

    @property
    def passed(self) -> bool:
        """Whether everything holds, and a rate was found where one was looked for."""
        return not self.missed and not (self.searched and self.highest_rate is None)

    @property
    def misses(self) -> list[str]:
        """Why it did not pass, for people: a line each."""
        lines = [
            f"{run.scenario}, {run.load}: {check.about}, {check.name} "
            f"{said(check.measured)}{check.unit and ' ' + check.unit} "
            f"({check.relation} {said(check.bound)})"
            for run, check in self.missed
        ]
        if self.searched and self.highest_rate is None:
            lines.append("no rate was found that holds and was confirmed")
        return lines

    def of(self, scenario: str) -> list[Run]:
        """Return the runs of one scenario, a search's tries left out."""
        return [run for run in self.runs if run.scenario == scenario and not run.probe]

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values; figures that are worked out stand in it as well."""
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
    """JSON knows no infinity."""
    return value if value < float("inf") else None
