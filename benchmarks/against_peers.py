"""Bandstand beside plain servers of the same models: the same clips and machine, in turns.

`genre_features` over HTTP and on Triton beside FastAPI and LitServe with librosa, and
`genre_wav2vec2` beside FastAPI with transformers' pipeline. Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bandstand.runners.cores import available_cores
from benchmarks.contenders import Contender, Turn
from benchmarks.goals import Goal, exit_code, goals_table, misses
from benchmarks.processes import memory, stop_what_was_started_on_sigterm
from benchmarks.recordings import as_wav, real_clip
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from benchmarks.sides import FEATURE_PEERS, WAVES_MODEL, Side, features_sides, pipeline_sides
from harness.transformers_checkpoints import SMALL_WAVES

MODULE = "benchmarks.against_peers"
FEATURES, PIPELINE = "features", "pipeline"
CONCURRENCIES = (8, 32)
FEATURE_SECONDS, WAVE_SECONDS = 30.0, 10.0
OURS_MORE = 4
"""Requests to Bandstand for each one to a peer where the peers take some ten times as long."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of all turns of one server at one concurrency.

    Attributes:
        per_second: requests a second, median of the turns.
        cpu_ms: CPU milliseconds a request, median of the turns.
        load_cpu_ms: the load generator's, likewise.
        p50_ms: of all requests, as is `p99_ms`.
        requests: how many.
    """

    per_second: float
    cpu_ms: float
    load_cpu_ms: float
    p50_ms: float
    p99_ms: float
    requests: int

    @classmethod
    def of(cls, turns: Sequence[Turn]) -> Figures:
        """Sum up."""
        latencies = [latency for turn in turns for latency in turn.latencies]
        p50, p99 = (1e3 * float(value) for value in np.percentile(latencies, [50, 99]))
        return cls(
            statistics.median(turn.per_second for turn in turns),
            statistics.median(turn.cpu_ms for turn in turns),
            statistics.median(turn.load_cpu_ms for turn in turns),
            p50,
            p99,
            len(latencies),
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """The servers of one model side by side.

    Attributes:
        what: the model and the clip.
        figures: by name of the server and concurrency.
        ours: the names that are Bandstand's; the others are peers.
        memory_mib: PSS of all processes of each server after the last round.
    """

    what: str
    figures: dict[tuple[str, int], Figures]
    ours: Sequence[str]
    memory_mib: dict[str, float]

    def best_peer(self, level: int, figure: Callable[[Figures], float]) -> float:
        """Return the lowest figure of any peer."""
        return min(
            figure(figures)
            for (name, concurrency), figures in self.figures.items()
            if concurrency == level and name not in self.ours
        )


def main() -> int:
    """Measure, print and write the report."""
    stop_what_was_started_on_sigterm()
    options = _options()
    measured_on = machine()
    comparisons = [compared(part, options) for part in options.part or (FEATURES, PIPELINE)]
    goals = [goal for comparison in comparisons for goal in goals_of(comparison)]
    text = write_report(
        "against_peers",
        "Bandstand and plain servers of the same models",
        command_line(MODULE),
        [goals_table(goals), *(figures_table(comparison) for comparison in comparisons)],
        [*misses(goals), *notes(options)],
        measured_on=measured_on,
        directory=options.results,
    )
    print(text)
    return exit_code(goals)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="turns of everybody (2)")
    parser.add_argument(
        "--waves", type=int, default=2, help="requests of each connection in a turn (2)"
    )
    parser.add_argument(
        "--part", choices=(FEATURES, PIPELINE), action="append", help="this one (repeatable)"
    )
    parser.add_argument(
        "--peer", choices=FEATURE_PEERS, action="append", help="this one alone (repeatable)"
    )
    parser.add_argument("--small", action="store_true", help="a small Wav2Vec2, to try this out")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    return parser.parse_args()


def compared(part: str, options: argparse.Namespace) -> Comparison:
    """Start both sides of one comparison, and measure them."""
    sides: AbstractContextManager[list[Side]]
    if part == FEATURES:
        clip = as_wav(real_clip(FEATURE_SECONDS))
        what = f"genre_features, {FEATURE_SECONDS:g} s"
        sides = features_sides(clip, options.peer or list(FEATURE_PEERS))
        more = OURS_MORE
    else:
        clip = as_wav(real_clip(WAVE_SECONDS))
        what = f"{WAVES_MODEL}, {WAVE_SECONDS:g} s"
        sides = pipeline_sides(clip, SMALL_WAVES if options.small else {})
        more = 1
    with sides as running:
        return measure(what, running, options, more)


def measure(what: str, sides: Sequence[Side], options: argparse.Namespace, more: int) -> Comparison:
    """Ask all of them in turns."""
    contenders = {
        (side.name, level): Contender(
            side.asked(level),
            options.rounds,
            options.waves * level * (more if side.ours else 1),
        )
        for level in CONCURRENCIES
        for side in sides
    }
    for contender in contenders.values():
        contender.warm_up()
    for number in range(options.rounds):
        print(f"{what}: round {number + 1} of {options.rounds}", file=sys.stderr)
        for contender in contenders.values():
            contender.take_turn()
    return Comparison(
        what,
        {key: Figures.of(contender.turns) for key, contender in contenders.items()},
        [side.name for side in sides if side.ours],
        {side.name: sum(memory(one).proportional for one in side.processes) for side in sides},
    )


def goals_of(comparison: Comparison) -> list[Goal]:
    """Compare each of ours with the best of its peers."""
    goals = []
    for (name, level), ours in comparison.figures.items():
        if name not in comparison.ours:
            continue
        measured = {
            "requests/s of the best peer over ours": comparison.best_peer(
                level, lambda peer: -peer.per_second
            )
            / -ours.per_second,
            "CPU ms a request over the best peer's": ours.cpu_ms
            / comparison.best_peer(level, lambda peer: peer.cpu_ms),
            "p99 over the best peer's": ours.p99_ms
            / comparison.best_peer(level, lambda peer: peer.p99_ms),
        }
        goals += [
            Goal(f"{comparison.what}: {name} at {level}: {what}", value, 1.0)
            for what, value in measured.items()
        ]
    return goals


def figures_table(comparison: Comparison) -> Table:
    """Return one row a server and concurrency."""
    rows = [
        (
            level,
            name,
            round(figures.per_second, 2),
            round(figures.cpu_ms, 1),
            round(figures.p50_ms),
            round(figures.p99_ms),
            round(comparison.memory_mib[name]),
            figures.requests,
            round(figures.load_cpu_ms, 2),
        )
        for (name, level), figures in comparison.figures.items()
    ]
    columns = ("concurrency", "", "requests/s", "CPU ms a request", "p50 (ms)", "p99 (ms)")
    more = ("memory (MiB)", "requests", "load generator (CPU ms)")
    return Table(f"{comparison.what}, side by side", (*columns, *more), rows)


def notes(options: argparse.Namespace) -> list[str]:
    """Return how it was measured."""
    cores = available_cores()
    return [
        f"{options.rounds} rounds; in each everybody takes a turn at concurrency "
        f"{' and '.join(map(str, CONCURRENCIES))}, of {options.waves} requests a connection "
        f"({OURS_MORE * options.waves} to Bandstand's servers of genre_features, whose turns would "
        "be over at once). A connection sends its next request when it has its answer. Rates and "
        "CPU times are medians of the turns, percentiles are of all requests.",
        "The clip is a WAV of a real recording at 22.05 kHz, mono, 16 bits, for all the same: a "
        "form's upload over HTTP, the bytes themselves over gRPC. Feature caches are off.",
        f"Every server may use all {cores} cores, which the load generator shares. Peers: "
        f"`benchmarks/peers`, {cores} worker processes; FastAPI with librosa computes as many "
        "requests at a time in each as there are cores; transformers' pipeline one, with "
        "one thread of torch. Bandstand and Triton: as they start by default.",
        "genre_wav2vec2: seeded random weights of the real size, the same checkpoint on both "
        "sides; the peer in float32, Bandstand's export as its card prefers, in bfloat16 where the "
        "processor has it.",
        "CPU time is that of all processes of a server; memory is their PSS after the last round.",
    ]


if __name__ == "__main__":
    sys.exit(main())
