"""The same gateway with its models in its own runner processes, and on a Triton server.

Both answer the same requests in turns. CPU time is that of the gateway's processes, and of Triton's
where there is one. Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bandstand.settings import get_settings
from benchmarks.contenders import Contender, Served, Turn
from benchmarks.goals import Goal, exit_code, goals_table, misses
from benchmarks.load import raw_post
from benchmarks.processes import Endpoint, stop_what_was_started_on_sigterm, wait_until_idle
from benchmarks.recordings import as_wav, padded, real_clip
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from benchmarks.triton_load import ADMIN_KEY, processes, triton_of, triton_version
from harness.serving import serving

MODULE = "benchmarks.gateway_on_triton"
CONCURRENCY = 32
SECONDS = 30.0
PADDED_SECONDS = 1.0
CHEAP = 5
"""Requests with one second of sound are short: so many times more of them in a turn."""

MOST_ADDED_CPU_MS = 5.0

EMBEDDED, ON_TRITON = "embedded", "on Triton"
WHOLE, PADDED = f"{SECONDS:g} s clip", f"{PADDED_SECONDS:g} s, padded"
SLOWER = "requests/s embedded over on Triton"
ADDED = "CPU ms a request that Triton adds"
MOSTLY_FEATURES = (
    "Nearly all the work is features, the same in both, and varies by more than what is compared: "
    "the padded recordings tell more."
)

TWO_PROCESSES = (
    "Without a GPU Triton's ONNX Runtime is a Python process behind the server, so a request meets "
    "one process more; on two cores that the load generator shares this shows where there is next "
    "to no other work."
)

Key = tuple[str, str]
Row = tuple[str | float, ...]
Contenders = dict[Key, Contender]


@dataclass(frozen=True, slots=True)
class Gateways:
    """Both, with all processes behind each, and the version of the Triton server."""

    endpoints: dict[str, Endpoint]
    triton_version: str


def main() -> int:
    """Measure, print and write the report."""
    stop_what_was_started_on_sigterm()
    options = _options()
    measured_on = machine()
    requests = recordings()
    with gateways() as running:
        contenders = line_up(running.endpoints, requests, options)
        for contender in contenders.values():
            contender.warm_up()
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for contender in contenders.values():
                contender.take_turn()
    goals = goals_of(contenders)
    text = write_report(
        "gateway_on_triton",
        f"The gateway on Triton, and on its own runners, at concurrency {CONCURRENCY}",
        command_line(MODULE),
        [goals_table(goals), gateways_table(contenders), differences_table(contenders)],
        [*misses(goals), *notes(options, running)],
        measured_on=measured_on,
        directory=options.results,
    )
    print(text)
    return exit_code(goals)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="turns of everybody (9)")
    parser.add_argument("--requests", type=int, default=64, help="in a turn (64)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    return parser.parse_args()


def recordings() -> dict[str, bytes]:
    """Return requests: a whole clip, and a second of it with as many bytes."""
    clip = real_clip(SECONDS)
    whole = as_wav(clip)
    second = as_wav(clip[: round(PADDED_SECONDS * len(clip) / SECONDS)])
    return {
        WHOLE: raw_post("/predict", whole),
        PADDED: raw_post("/predict", padded(second, len(whole))),
    }


@contextmanager
def gateways() -> Iterator[Gateways]:
    """Run a gateway on runners of its own, and one on a Triton server beside it."""
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        triton = stack.enter_context(triton_of(get_settings().repository))
        address = triton.grpc_address
        embedded = stack.enter_context(serving(logs / "embedded.log", feature_cache_entries=0))
        on_triton = stack.enter_context(
            serving(
                logs / "on_triton.log",
                feature_cache_entries=0,
                runtime="triton",
                triton_url=address,
                admin_key=ADMIN_KEY,
            )
        )
        endpoints = {
            EMBEDDED: Endpoint(embedded.url, embedded.processes()),
            ON_TRITON: Endpoint(on_triton.url, [*on_triton.processes(), *processes(triton)]),
        }
        for endpoint in endpoints.values():
            wait_until_idle(endpoint.processes)
        yield Gateways(endpoints, triton_version(triton))


def line_up(
    endpoints: dict[str, Endpoint], requests: dict[str, bytes], options: argparse.Namespace
) -> Contenders:
    """Return everybody in the order of their turns, each beside what it is compared with."""
    return {
        (what, name): Contender(
            Served(endpoint, request, CONCURRENCY),
            options.rounds,
            options.requests * (CHEAP if what == PADDED else 1),
        )
        for what, request in requests.items()
        for name, endpoint in endpoints.items()
    }


def paired(
    contenders: Contenders, what: str, compare: Callable[[Turn, Turn], float]
) -> list[float]:
    """Return a comparison of the gateway on Triton with the other, round by round."""
    pairs = zip(contenders[what, ON_TRITON].turns, contenders[what, EMBEDDED].turns, strict=True)
    return [compare(on_triton, embedded) for on_triton, embedded in pairs]


def slower_by(on_triton: Turn, embedded: Turn) -> float:
    """Return the embedded gateway's requests a second over those on Triton."""
    return embedded.per_second / on_triton.per_second


def added_cpu_ms(on_triton: Turn, embedded: Turn) -> float:
    """Return the CPU milliseconds a request that Triton adds."""
    return on_triton.cpu_ms - embedded.cpu_ms


def goals_of(contenders: Contenders) -> list[Goal]:
    """Compare with what was promised."""
    return [
        goal
        for what in (WHOLE, PADDED)
        for goal in (
            Goal(
                f"{what}: {SLOWER}",
                statistics.median(paired(contenders, what, slower_by)),
                1.0,
                MOSTLY_FEATURES if what == WHOLE else TWO_PROCESSES,
            ),
            Goal(
                f"{what}: {ADDED}",
                statistics.median(paired(contenders, what, added_cpu_ms)),
                MOST_ADDED_CPU_MS,
                MOSTLY_FEATURES if what == WHOLE else TWO_PROCESSES,
            ),
        )
    ]


def gateways_table(contenders: Contenders) -> Table:
    """Return one row a recording and gateway."""
    rows: list[Row] = []
    for (what, name), contender in contenders.items():
        turns = contender.turns
        latencies = [latency for turn in turns for latency in turn.latencies]
        rows.append(
            (
                what,
                name,
                round(statistics.median(turn.per_second for turn in turns), 2),
                round(statistics.median(turn.cpu_ms for turn in turns), 2),
                *(round(1e3 * float(p), 1) for p in np.percentile(latencies, [50, 99])),
                round(statistics.median(turn.load_cpu_ms for turn in turns), 2),
                len(latencies),
            )
        )
    columns = ("", "gateway", "requests/s", "CPU ms a request", "p50 (ms)", "p99 (ms)")
    return Table("Both gateways", (*columns, "load generator (CPU ms)", "requests"), rows)


def differences_table(contenders: Contenders) -> Table:
    """Return what the rounds say of both comparisons."""
    rows = []
    for what in (WHOLE, PADDED):
        for name, compare in ((SLOWER, slower_by), (ADDED, added_cpu_ms)):
            values = paired(contenders, what, compare)
            low, high = (float(value) for value in np.percentile(values, [25, 75]))
            rows.append((f"{what}: {name}", statistics.median(values), low, high))
    return Table(
        "Compared round by round", ("", "median", "lower quartile", "upper quartile"), rows
    )


def notes(options: argparse.Namespace, running: Gateways) -> list[str]:
    """Return how it was measured."""
    return [
        f"{options.rounds} rounds; in each everybody takes a turn of {options.requests} requests "
        f"({CHEAP * options.requests} where padded), in the order of the table. Goals are medians "
        "of what each round says.",
        f"POST /predict with a WAV of {SECONDS:g} s of a real recording as the body; "
        f"{CONCURRENCY} connections, each sending its next request when it has its answer. Feature "
        "caches are off.",
        f"Padded: {PADDED_SECONDS:g} s of sound and a chunk to skip, as many bytes: with next to "
        "no features to compute, the sharper measure of the way to the model and back.",
        f"Triton {running.triton_version} with the same repository, on the same machine, with the "
        "stand-in for its onnxruntime backend. Whatever a gateway's processes and Triton's use is "
        "counted; the load generator is not, but shares the cores.",
    ]


if __name__ == "__main__":
    sys.exit(main())
