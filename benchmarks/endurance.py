"""Many concurrent requests for some minutes: none is lost, none fails, memory does not grow.

Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.goals import Goal, exit_code, goals_table
from benchmarks.load import LOST, Load, drive, raw_post
from benchmarks.processes import Memory, memory, stop_what_was_started_on_sigterm
from benchmarks.recordings import short_clips
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from harness.serving import Server, serving

MODULE = "benchmarks.endurance"
SHORTEST_SECONDS, LONGEST_SECONDS = 1.0, 3.0
MOST_GROWTH = 1.05
REFUSED = 429

Snapshot = dict[str, Memory]


def main() -> int:
    """Measure, print and write the report."""
    stop_what_was_started_on_sigterm()
    options = _options()
    half = options.requests // 2
    measured_on = machine()
    clips = short_clips(2 * half, SHORTEST_SECONDS, LONGEST_SECONDS)
    requests = (raw_post("/predict", clip) for clip in clips)
    with (
        tempfile.TemporaryDirectory() as logs,
        serving(Path(logs) / "server.log", feature_cache_entries=0) as server,
    ):
        snapshots = [snapshot(server)]
        loads = []
        for _ in range(2):
            loads.append(drive(server.url, islice(requests, half), options.concurrency))
            snapshots.append(snapshot(server))
    goals = goals_of(loads, snapshots)
    tables = [goals_table(goals), answers_table(loads), memory_table(snapshots, half)]
    notes = [
        f"{2 * half} requests at concurrency {options.concurrency}: WAV files of "
        f"{SHORTEST_SECONDS:g} to {LONGEST_SECONDS:g} s, each cut from another place of a real "
        "recording; the feature cache is off.",
        "Memory is USS, the pages of each process alone, taken when all requests are answered; "
        "what the first half makes the processes keep (heaps, pools) is not growth.",
        f"A server with its default limits; a refusal ({REFUSED}) would be no failure.",
    ]
    title = "Endurance: no request lost, no memory kept"
    text = write_report(
        "endurance",
        title,
        command_line(MODULE),
        tables,
        notes,
        measured_on=measured_on,
        directory=options.results,
    )
    print(text)
    return exit_code(goals)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="in all (2000)")
    parser.add_argument("--concurrency", type=int, default=32, help="at a time (32)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    return parser.parse_args()


def snapshot(server: Server) -> Snapshot:
    """Return the memory of every process of the server, by what it does."""
    found = {}
    for process in server.processes():
        command = process.cmdline()
        named = "--service-name" in command
        name = command[command.index("--service-name") + 1] if named else "supervisor"
        found[f"{name} ({process.pid})"] = memory(process)
    return found


def _total(snapshot: Snapshot) -> float:
    return sum(one.unique for one in snapshot.values())


def goals_of(loads: list[Load], snapshots: list[Snapshot]) -> list[Goal]:
    """Compare what came of it with what was promised."""
    seen = _statuses(loads)
    failed = sum(n for status, n in seen.items() if isinstance(status, int) and status >= 500)
    other = seen.total() - failed - seen[LOST] - seen[200] - seen[REFUSED]
    return [
        Goal("requests lost", seen[LOST], 0),
        Goal("answers 5xx", failed, 0),
        Goal(f"answers other than 200 and {REFUSED}", other, 0),
        Goal(
            "memory after all requests, as a share of that after half",
            _total(snapshots[2]) / _total(snapshots[1]),
            MOST_GROWTH,
        ),
    ]


def _statuses(loads: list[Load]) -> Counter[int | str]:
    return sum((load.statuses for load in loads), Counter[int | str]())


def answers_table(loads: list[Load]) -> Table:
    """Return the answers by status, and how fast they came."""
    seen = _statuses(loads)
    statuses: list[int | str] = [
        *sorted({200, REFUSED} | {s for s in seen if isinstance(s, int)}),
        LOST,
    ]
    rows = []
    for name, load in zip(("first half", "second half"), loads, strict=True):
        p50, p99 = np.percentile(load.latencies, [50, 99]) * 1e3
        figures = (round(sum(load.statuses.values()) / load.wall_seconds, 1), round(p50, 1))
        rows.append((name, *(load.statuses[s] for s in statuses), *figures, round(p99, 1)))
    columns = ("", *map(str, statuses), "requests/s", "p50 (ms)", "p99 (ms)")
    return Table("Answers by status", columns, rows)


def memory_table(snapshots: list[Snapshot], half: int) -> Table:
    """Return one row a process; one that was replaced stands with its last row empty."""
    nothing = Memory(0.0, 0.0)
    names = list(dict.fromkeys(name for one in snapshots for name in one))
    rows: list[tuple[str | float, ...]] = [
        (name, *(round(one.get(name, nothing).unique, 1) for one in snapshots)) for name in names
    ]
    rows.append(("all", *(round(_total(one), 1) for one in snapshots)))
    proportional = [sum(m.proportional for m in one.values()) for one in snapshots]
    rows.append(("all, PSS", *(round(value, 1) for value in proportional)))
    columns = ("", "before", f"after {half}", f"after {2 * half}")
    return Table("Memory (USS, MiB)", columns, rows)


if __name__ == "__main__":
    sys.exit(main())
