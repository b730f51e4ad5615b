"""The overhead of the service over the same work in one process, and plain servers.

The same recordings go to Bandstand's server, to plain servers of the same model, and through
Bandstand's pipeline in this process, in turns. CPU time is that of all processes of a server.
Exit code 1 if the goal is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bandstand.audio.decode import DecodeLimits
from bandstand.models.repository import ModelRepository
from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.runners.cores import available_cores
from bandstand.runners.load import load_runner
from bandstand.settings import get_settings
from benchmarks.contenders import Contender, InProcess, Served
from benchmarks.goals import Goal, exit_code, goals_table
from benchmarks.load import multipart_post, raw_post
from benchmarks.peers.running import running_peer
from benchmarks.processes import (
    Endpoint,
    memory,
    stop_what_was_started_on_sigterm,
    wait_until_idle,
)
from benchmarks.recordings import as_wav, padded, real_clip
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from harness.cards import get_card
from harness.serving import serving

MODULE = "benchmarks.overhead"
GOAL_CPU_MS = 12.0
CONCURRENCY = 8
SECONDS = 30.0
PADDED_SECONDS = 1.0
CHEAP = 5
"""Requests without the features of 30 s are short: so many times more of them in a turn."""

RAW = "Bandstand, raw body"
MULTIPART = "Bandstand, multipart"
PIPELINE = "in process"
SINGLE = "in process, one at a time"
PADDED_RAW = "Bandstand, padded, raw body"
PADDED_MULTIPART = "Bandstand, padded, multipart"
PADDED_PIPELINE = "in process, padded"
CACHED_RAW = "Bandstand, feature cache, raw body"
CACHED_MULTIPART = "Bandstand, feature cache, multipart"
PEERS = {"FastAPI, multipart": "fastapi_plain", "LitServe, multipart": "litserve_plain"}

Contenders = dict[str, Contender]
Row = tuple[str | float, ...]


@dataclass(frozen=True, slots=True)
class Recordings:
    """WAV files of one size: a whole clip, and a second of it with a chunk to skip."""

    whole: bytes
    short: bytes


def main() -> int:
    """Measure, print and write the report."""
    stop_what_was_started_on_sigterm()
    options = _options()
    measured_on = machine()
    clip = real_clip(SECONDS)
    whole = as_wav(clip)
    second = as_wav(clip[: round(PADDED_SECONDS * len(clip) / SECONDS)])
    recordings = Recordings(whole, padded(second, len(whole)))
    with servers(with_peers=not options.no_peers) as running:
        contenders = line_up(running, recordings, options)
        for contender in contenders.values():
            contender.warm_up()
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for contender in contenders.values():
                contender.take_turn()
        tables = [overhead_table(contenders), servers_table(contenders), times_table(contenders)]
    overhead = statistics.median(differences(contenders, RAW, PIPELINE))
    goals = [Goal("CPU ms a request over the pipeline in process", overhead, GOAL_CPU_MS)]
    text = write_report(
        "overhead",
        f"Overhead: a {SECONDS:g} s WAV at concurrency {CONCURRENCY}",
        command_line(MODULE),
        [goals_table(goals), *tables],
        notes(recordings, options),
        measured_on=measured_on,
        directory=options.results,
    )
    print(text)
    return exit_code(goals)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="turns of everybody (9)")
    parser.add_argument("--requests", type=int, default=40, help="in a turn (40)")
    parser.add_argument("--peer-rounds", type=int, default=3, help="turns of peers (3)")
    parser.add_argument("--peer-requests", type=int, default=24, help="in a peer's turn (24)")
    parser.add_argument("--no-peers", action="store_true", help="Bandstand alone")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    return parser.parse_args()


@contextmanager
def servers(*, with_peers: bool) -> Iterator[dict[str, Endpoint]]:
    """Run Bandstand without and with its feature cache (`plain`, `cached`), and the peers."""
    model = ModelRepository.from_settings(get_settings()).latest(DEFAULT_MODEL).model_path
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = {}
        for name, given in (("plain", {"feature_cache_entries": 0}), ("cached", {})):
            server = stack.enter_context(serving(logs / f"{name}.log", **given))
            running[name] = Endpoint(server.url, server.processes())
        for module in PEERS.values() if with_peers else ():
            print(f"starting {module}", file=sys.stderr)
            peer = running_peer(module, model, available_cores())
            running[module] = stack.enter_context(peer)
        for endpoint in running.values():
            wait_until_idle(endpoint.processes)
        yield running


def line_up(
    running: dict[str, Endpoint], recordings: Recordings, options: argparse.Namespace
) -> Contenders:
    """Return everybody in the order of their turns, each near what it is compared with."""
    settings, card = get_settings(), get_card(DEFAULT_MODEL)
    limits = DecodeLimits.from_settings(settings)
    model = ModelRepository.from_settings(settings).latest(DEFAULT_MODEL).model_path
    runner = load_runner(
        card,
        model,
        runtime=settings.runtime,
        precision=settings.precision,
        threads=settings.threads_per_runner,
    )

    def asked(server: str, request: bytes, requests: int) -> Contender:
        return Contender(Served(running[server], request, CONCURRENCY), options.rounds, requests)

    def in_process(audio: bytes, threads: int, requests: int) -> Contender:
        work = InProcess(audio, card, runner, limits, threads)
        return Contender(work, options.rounds, requests)

    def peer(module: str, request: bytes) -> Contender:
        work = Served(running[module], request, CONCURRENCY)
        return Contender(work, options.peer_rounds, options.peer_requests)

    cores, requests, cheap = available_cores(), options.requests, CHEAP * options.requests
    raw, multipart = (make("/predict", recordings.whole) for make in (raw_post, multipart_post))
    short, short_form = (make("/predict", recordings.short) for make in (raw_post, multipart_post))
    return {
        RAW: asked("plain", raw, requests),
        PIPELINE: in_process(recordings.whole, cores, requests),
        MULTIPART: asked("plain", multipart, requests),
        SINGLE: in_process(recordings.whole, 1, requests),
        PADDED_RAW: asked("plain", short, cheap),
        PADDED_PIPELINE: in_process(recordings.short, cores, cheap),
        PADDED_MULTIPART: asked("plain", short_form, cheap),
        CACHED_RAW: asked("cached", raw, cheap),
        CACHED_MULTIPART: asked("cached", multipart, cheap),
        **{name: peer(module, multipart) for name, module in PEERS.items() if module in running},
    }


def differences(contenders: Contenders, name: str, less: str) -> list[float]:
    """Return the CPU milliseconds a request of one over another, round by round."""
    pairs = zip(contenders[name].turns, contenders[less].turns, strict=True)
    return [one.cpu_ms - other.cpu_ms for one, other in pairs]


def overhead_table(contenders: Contenders) -> Table:
    """Return what the service adds, measured in several ways."""
    pairs = (
        ("30 s clip, raw body", RAW, PIPELINE),
        ("30 s clip, raw body, over one at a time", RAW, SINGLE),
        ("30 s clip, multipart", MULTIPART, PIPELINE),
        ("padded, raw body", PADDED_RAW, PADDED_PIPELINE),
        ("padded, multipart", PADDED_MULTIPART, PADDED_PIPELINE),
    )
    rows: list[Row] = [
        (what, *_spread(differences(contenders, name, less))) for what, name, less in pairs
    ]
    for what, name in (
        ("feature cache, raw body: gateway and runner", CACHED_RAW),
        ("feature cache, multipart: gateway and runner", CACHED_MULTIPART),
    ):
        rows.append((what, *_spread([turn.cpu_ms for turn in contenders[name].turns])))
    columns = ("", "median", "lower quartile", "upper quartile", "min", "max")
    return Table("Overhead: CPU ms a request over the pipeline in process", columns, rows)


def _spread(values: Sequence[float]) -> tuple[float, ...]:
    low, high = np.percentile(values, [25, 75])
    figures = (statistics.median(values), float(low), float(high), min(values), max(values))
    return tuple(round(figure, 2) for figure in figures)


def servers_table(contenders: Contenders) -> Table:
    """Return one row a server, all asked for the genre of the 30 s clip."""
    rows: list[Row] = []
    for name in (RAW, MULTIPART, *PEERS):
        if name not in contenders:
            continue
        work, turns = contenders[name].work, contenders[name].turns
        assert isinstance(work, Served)
        latencies = [latency for turn in turns for latency in turn.latencies]
        p50, p99 = (1e3 * float(value) for value in np.percentile(latencies, [50, 99]))
        held = sum(memory(process).proportional for process in work.server.processes)
        rows.append(
            (
                name,
                round(statistics.median(turn.per_second for turn in turns), 2),
                round(statistics.median(turn.cpu_ms for turn in turns), 1),
                *(round(value) for value in (p50, p99, held)),
                len(latencies),
            )
        )
    columns = ("", "requests/s", "CPU ms a request", "p50 (ms)", "p99 (ms)", "memory (MiB)")
    return Table("Servers of the same model side by side", (*columns, "requests"), rows)


def times_table(contenders: Contenders) -> Table:
    """Return everybody's CPU time, and what the load generator took beside it."""
    rows: list[Row] = [
        (
            name,
            round(statistics.median(turn.per_second for turn in contender.turns), 2),
            *_spread([turn.cpu_ms for turn in contender.turns]),
            round(statistics.median(turn.load_cpu_ms for turn in contender.turns), 2),
        )
        for name, contender in contenders.items()
    ]
    columns = ("", "requests/s", "median", "lower quartile", "upper quartile", "min", "max")
    return Table("CPU ms a request", (*columns, "load generator"), rows)


def notes(recordings: Recordings, options: argparse.Namespace) -> list[str]:
    """Return how it was measured."""
    cores = available_cores()
    lines = [
        f"{options.rounds} rounds; in each everybody takes a turn of {options.requests} requests "
        f"({CHEAP * options.requests} where padded or cached), in the order of the last table. "
        "Overhead is the median of the differences within a round.",
        f"The request: POST /predict with a {len(recordings.whole) / 1e6:.2f} MB WAV, the first "
        f"{SECONDS:g} s of a real recording at 22.05 kHz, mono, 16 bits; {CONCURRENCY} "
        "connections, each sending its next request when it has its answer.",
        "CPU time: user and system time of all processes of a server (psutil), before and after. "
        "The load generator is no part of it, but shares the cores.",
        f"In process: `prepare` and the runner in one process, {cores} recordings at a time on "
        f"{cores} cores as in the preprocessor (two busy cores each do less for their CPU time "
        "than one alone), or one at a time.",
        f"Padded: {PADDED_SECONDS:g} s of sound and a chunk to skip, as many bytes as the clip. It "
        "goes the same way through the same processes, without the noise of the features: the "
        "sharpest measure of transport.",
        "Feature cache: every request is a hit, so the preprocessor has no part in it, and nothing "
        "is subtracted. In all other rows the cache is off.",
    ]
    if not options.no_peers:
        lines.append(
            f"FastAPI, LitServe: `benchmarks/peers`, the same ONNX file behind librosa's calls, "
            f"{cores} worker processes; {options.peer_rounds} turns of {options.peer_requests} "
            "requests. Memory: PSS of all processes after the last round."
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
