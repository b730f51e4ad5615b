"""What a benchmark is held to: a measured value and the most it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import Table


@dataclass(frozen=True, slots=True)
class Goal:
    """One promise; NaN keeps none."""

    what: str
    measured: float
    at_most: float

    @property
    def is_met(self) -> bool:
        """Whether the measured value is within the limit."""
        return self.measured <= self.at_most


def goals_table(goals: Sequence[Goal]) -> Table:
    """Return one row a goal."""
    rows = [
        (goal.what, goal.measured, goal.at_most, "met" if goal.is_met else "missed")
        for goal in goals
    ]
    return Table("Goals", ("", "measured", "at most", ""), rows)


def exit_code(goals: Sequence[Goal]) -> int:
    """Return 0 if all goals are met, else 1."""
    return 0 if all(goal.is_met for goal in goals) else 1
