"""Minutes of random arrivals at 80 % of the highest rate: no failures, and constant memory.

The rate is searched for first. Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.settings import get_settings
from bandstand_loadtest.clips import ClipStatistics, load_clips
from bandstand_loadtest.runs import Bounds, Run
from bandstand_loadtest.scenarios import LoadTest, Observer, Plan
from bandstand_loadtest.targets.connect import open_target
from benchmarks.endurance import Snapshot, snapshot
from benchmarks.goals import Goal, exit_code, goals_table, misses
from benchmarks.processes import stop_what_was_started_on_sigterm
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from harness import PROJECT_ROOT
from harness.serving import Server, serving

MODULE = "benchmarks.sustained"
SHARE = 0.8
PRECISION = 0.05
TENTHS = 10
SNAPSHOTS_A_TENTH = 20
MOST_GROWTH = 1.05
SUFFIXES = (".ogg", ".mp3", ".flac", ".wav")

_SEARCH_SEED, _RUN_SEED = 0, 10


@dataclass(frozen=True, slots=True)
class MemoryWatch:
    """Memory of a server's processes, taken while it works.

    Attributes:
        seconds: how long the run is; it is divided into tenths.
        snapshots: when each was taken, in seconds after the start, and what it says.
    """

    seconds: float
    snapshots: list[tuple[float, Snapshot]] = field(default_factory=list)

    async def look(self, server: Server) -> None:
        """Take a snapshot now and then, until cancelled."""
        started = time.perf_counter()
        while True:
            taken = await asyncio.to_thread(snapshot, server)
            self.snapshots.append((time.perf_counter() - started, taken))
            await asyncio.sleep(self.seconds / TENTHS / SNAPSHOTS_A_TENTH)

    def mib(self, tenth: int, process: str | None = None) -> float:
        """Return the median USS in one tenth, from 0, of one process or of all; NaN: none seen."""
        width = self.seconds / TENTHS
        last = tenth == TENTHS - 1  # answers may come a little after the last arrival
        values = [
            sum(held.unique for name, held in taken.items() if process in (None, name))
            for at, taken in self.snapshots
            if tenth * width <= at and (last or at < (tenth + 1) * width)
        ]
        return statistics.median(values) if values else float("nan")

    @property
    def names(self) -> Sequence[str]:
        """The processes that were there at any time."""
        return list(dict.fromkeys(name for _, taken in self.snapshots for name in taken))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the search and of the long run."""

    clips: ClipStatistics
    tried: Sequence[Run]
    highest_rate: float
    run: Run
    watch: MemoryWatch


def main() -> int:
    """Measure, print and write the report."""
    stop_what_was_started_on_sigterm()
    options = _options()
    measured_on = machine()
    with (
        tempfile.TemporaryDirectory() as logs,
        serving(Path(logs) / "server.log", feature_cache_entries=0) as server,
    ):
        outcome = asyncio.run(measure(server, options))
    goals = goals_of(outcome, options)
    text = write_report(
        "sustained",
        f"{options.minutes:g} minutes at {100 * SHARE:.0f} % of the highest rate",
        command_line(MODULE),
        [goals_table(goals), run_table(outcome), memory_table(outcome), *search_tables(outcome)],
        [*misses(goals), *notes(outcome, options)],
        measured_on=measured_on,
        directory=options.results,
    )
    print(text)
    return exit_code(goals)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the run (10)")
    parser.add_argument("--rate", type=float, help="the highest, where it is known; no search")
    parser.add_argument("--probe-seconds", type=float, default=30.0, help="of a rate tried (30)")
    parser.add_argument("--p99-ms", type=float, default=2000.0, help="what must hold (2000)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    return parser.parse_args()


async def measure(server: Server, options: argparse.Namespace) -> Outcome:
    """Search for the highest rate, then ask at a share of it for minutes.

    Raises:
        RuntimeError: no rate holds.
    """
    clips = await load_clips(recordings(), DEFAULT_MODEL, get_settings())
    observer = Observer(begins=lambda what, seconds: print(f"{what}: {seconds:.0f} s", flush=True))
    # A generator on the server's own cores is late now and then; latency counts from when a
    # request was due, so that nothing is hidden by that.
    bounds = Bounds(options.p99_ms, late_share=1.0)
    seconds = 60 * options.minutes
    async with open_target(server.url, DEFAULT_MODEL) as target:
        probes = Plan(options.probe_seconds, 1, _SEARCH_SEED, bounds)
        search = LoadTest(target, clips, probes, observer)
        await search.warm_up()
        highest, tried = options.rate, list[Run]()
        if highest is None:
            highest, tried = await search.find_rate(None, PRECISION)
        if highest is None:
            raise RuntimeError(f"no rate holds a p99 of {options.p99_ms:g} ms")
        test = LoadTest(target, clips, Plan(seconds, 1, _RUN_SEED, bounds), observer)
        watch = MemoryWatch(seconds)
        looking = asyncio.create_task(watch.look(server))
        try:
            run = await test.server(SHARE * highest)
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
    return Outcome(ClipStatistics.of(clips), tried, highest, run, watch)


def recordings() -> list[Path]:
    """Return the real recordings of the data folder, and Bandstand's samples.

    Raises:
        FileNotFoundError: there is no data folder; `BANDSTAND_DATA_DIR` names it.
    """
    folders = get_settings().data_dir / "audio", PROJECT_ROOT / "samples"
    return [
        path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES
    ]


def goals_of(outcome: Outcome, options: argparse.Namespace) -> list[Goal]:
    """Compare with what was promised."""
    run, watch = outcome.run, outcome.watch
    return [
        Goal("requests failed", sum(run.errors.values()), 0),
        Goal("answers with another label than in process", 1 - run.accuracy.equal_share, 0),
        Goal(
            "memory in the last tenth, as a share of that in the second",
            watch.mib(TENTHS - 1) / watch.mib(1),
            MOST_GROWTH,
        ),
        Goal("p99 (ms)", run.latency_ms.p99 if run.latency_ms else float("nan"), options.p99_ms),
    ]


def run_table(outcome: Outcome) -> Table:
    """Return the long run's figures."""
    run, latency = outcome.run, outcome.run.latency_ms
    assert latency is not None
    rows = [
        ("highest rate that holds, requests/s", round(outcome.highest_rate, 2)),
        ("rate of the run, requests/s", round(run.rate or 0.0, 2)),
        ("requests", run.requests),
        ("failed", sum(run.errors.values())),
        ("answers a second", round(run.requests_per_second, 2)),
        ("audio seconds a second", round(run.audio_seconds_per_second, 1)),
        *((f"{name} (ms)", round(getattr(latency, name))) for name in ("p50", "p90", "p99")),
        ("slowest answer (ms)", round(latency.highest)),
        (
            "largest difference of a score from the model in process",
            run.accuracy.largest_difference,
        ),
        ("load generator, share of a core", round(run.generator.cpu_share, 2)),
        ("sent more than 10 ms late, share", round(run.generator.late_share, 3)),
    ]
    return Table("The run", ("", ""), rows)


def memory_table(outcome: Outcome) -> Table:
    """Return one row a process: its memory in each tenth."""
    watch = outcome.watch
    rows: list[tuple[str | float, ...]] = [
        (name, *(round(watch.mib(tenth, name), 1) for tenth in range(TENTHS)))
        for name in watch.names
    ]
    rows.append(("all", *(round(watch.mib(tenth), 1) for tenth in range(TENTHS))))
    tenths = [str(tenth + 1) for tenth in range(TENTHS)]
    return Table("Memory in each tenth of the run (USS, MiB, median)", ("", *tenths), rows)


def search_tables(outcome: Outcome) -> list[Table]:
    """Return one row a rate that was tried; no table where none was."""
    if not outcome.tried:
        return []
    rows = [
        (
            run.load,
            run.requests,
            sum(run.errors.values()),
            round(run.latency_ms.p99) if run.latency_ms else "",
            "holds" if run.holds else "does not hold",
        )
        for run in outcome.tried
    ]
    return [Table("The search", ("rate", "requests", "failed", "p99 (ms)", ""), rows)]


def notes(outcome: Outcome, options: argparse.Namespace) -> list[str]:
    """Return how it was measured."""
    clips = outcome.clips
    formats = ", ".join(f"{count} {name}" for name, count in clips.formats.items())
    return [
        "Arrivals are Poisson's, seeded, and none waits for an answer; latency counts from when a "
        "request was due. No request is repeated.",
        "The highest rate was given, not searched for."
        if options.rate
        else f"The search doubles, bisects to {100 * PRECISION:.0f} % and confirms, in runs of "
        f"{options.probe_seconds:g} s (the confirmation twice as long). A rate holds when nothing "
        f"fails, answers are right and p99 is at most {options.p99_ms:g} ms; a probe that cannot "
        "hold any more is ended early.",
        f"{clips.count} recordings ({formats}) of {clips.shortest_seconds:.0f} to "
        f"{clips.longest_seconds:.0f} s, {clips.total_seconds / clips.count:.0f} s on average, as "
        "the body of POST /predict; the feature cache is off. Each answer is compared with that of "
        "the model in process, in float32.",
        "Memory is USS, the pages of each process alone. What the first tenth makes processes keep "
        "(heaps, pools) is not growth.",
        "The load generator is that of `bandstand bench`, on the server's own cores.",
    ]


if __name__ == "__main__":
    sys.exit(main())
