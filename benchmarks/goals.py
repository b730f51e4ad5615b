"""Goals of benchmarks: a measured value and its upper bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import Table


@dataclass(frozen=True, slots=True)
class Goal:
    """One promise; NaN keeps none.

    Attributes:
        why: what would explain a miss, for the report.
    """

    what: str
    measured: float
    at_most: float
    why: str = ""

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


def misses(goals: Sequence[Goal]) -> list[str]:
    """Return a note on each goal that is missed, with its reason where one is known."""
    return [
        f"Missed: {goal.what}. {goal.why or 'Why is not known yet.'}"
        for goal in goals
        if not goal.is_met
    ]


def exit_code(goals: Sequence[Goal]) -> int:
    """Return 0 if all goals are met, else 1."""
    return 0 if all(goal.is_met for goal in goals) else 1
