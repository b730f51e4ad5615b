"""A small CNN on MFCCs over HTTP, beside a plain FastAPI server with librosa and ONNX Runtime.

The model is `genre_mfcc_cnn` with its real weights, exported here; the peer runs the same network
behind librosa's MFCCs. Both are asked for the same clip in turns. Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bandstand.models.installed import NETWORK_FILE
from bandstand.models.repository import ModelRepository
from bandstand.runners.cores import available_cores
from benchmarks.contenders import Contender, Served
from benchmarks.exporting import exported
from benchmarks.goals import Goal, exit_code, goals_table
from benchmarks.load import multipart_post
from benchmarks.peers.running import running_peer
from benchmarks.processes import (
    Endpoint,
    memory,
    stop_what_was_started_on_sigterm,
    wait_until_idle,
)
from benchmarks.recordings import as_wav, real_clip
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from harness.serving import serving

MODULE = "benchmarks.mel_cnn_http"
NAME = "genre_mfcc_cnn"
PATH = f"/predict?model_name={NAME}"
OURS, PEER = "Bandstand", "FastAPI, librosa, ONNX Runtime"
SECONDS = 30.0
CONCURRENCY = 8
MOST_OF_PEERS_CPU = 1.0


def main() -> int:
    """Measure, print and write the report; return 1 if the goal is missed."""
    stop_what_was_started_on_sigterm()
    options = _options()
    measured_on = machine()
    clip = as_wav(real_clip(SECONDS))
    with servers() as running:
        contenders = {
            name: Contender(
                Served(server, multipart_post(PATH, clip), CONCURRENCY),
                options.rounds,
                options.requests,
            )
            for name, server in running.items()
        }
        apart = largest_difference({name: answer(one, clip) for name, one in running.items()})
        for contender in contenders.values():
            contender.warm_up()
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for contender in contenders.values():
                contender.take_turn()
        table = servers_table(contenders, running)
    pairs = zip(contenders[OURS].turns, contenders[PEER].turns, strict=True)
    share = statistics.median(ours.cpu_ms / theirs.cpu_ms for ours, theirs in pairs)
    goals = [Goal(f"{NAME}: share of the peer's CPU time a request", share, MOST_OF_PEERS_CPU)]
    text = write_report(
        "mel_cnn_http",
        f"{NAME} over HTTP: a {SECONDS:g} s WAV at concurrency {CONCURRENCY}",
        command_line(MODULE),
        [goals_table(goals), table],
        notes(options, len(clip), apart),
        measured_on=measured_on,
        directory=options.results,
    )
    print(text)
    return exit_code(goals)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="turns of both (9)")
    parser.add_argument("--requests", type=int, default=80, help="in a turn (80)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    return parser.parse_args()


@contextmanager
def servers() -> Iterator[dict[str, Endpoint]]:
    """Export the model, and run both servers of it."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        repository = ModelRepository(directory / "models")
        exported(NAME, repository)
        server = stack.enter_context(
            serving(directory / "server.log", repository=repository.root, feature_cache_entries=0)
        )
        network = repository.latest(NAME).model_path.with_name(NETWORK_FILE)
        peer = running_peer("fastapi_mfcc_cnn", network, available_cores())
        running = {
            OURS: Endpoint(server.url, server.processes()),
            PEER: stack.enter_context(peer),
        }
        for endpoint in running.values():
            wait_until_idle(endpoint.processes)
        yield running


def answer(server: Endpoint, clip: bytes) -> dict[str, Any]:
    """Return what a server says of the clip."""
    response = httpx.post(f"{server.url}{PATH}", files={"file": clip}, timeout=60.0)
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


def largest_difference(answers: Mapping[str, dict[str, Any]]) -> float:
    """Return how far the scores of both are apart.

    Raises:
        RuntimeError: they name different genres, so that they do not do the same.
    """
    ours, theirs = answers[OURS], answers[PEER]
    if ours["primary_genre"] != theirs["primary_genre"]:
        raise RuntimeError(f"{ours['primary_genre']} or {theirs['primary_genre']}?")
    scores = theirs["all_scores"]
    return max(abs(float(ours["all_scores"][name] - scores[name])) for name in scores)


def servers_table(contenders: Mapping[str, Contender], running: Mapping[str, Endpoint]) -> Table:
    """Return one row a server."""
    rows: list[tuple[str | float, ...]] = []
    for name, contender in contenders.items():
        cpu = [turn.cpu_ms for turn in contender.turns]
        latencies = [latency for turn in contender.turns for latency in turn.latencies]
        p50, p99 = (1e3 * float(value) for value in np.percentile(latencies, [50, 99]))
        held = sum(memory(process).proportional for process in running[name].processes)
        rows.append(
            (
                name,
                round(statistics.median(turn.per_second for turn in contender.turns), 2),
                *(round(value, 1) for value in (statistics.median(cpu), min(cpu), max(cpu))),
                *(round(value) for value in (p50, p99, held)),
            )
        )
    columns = ("", "requests/s", "CPU ms a request, median", "min", "max", "p50 (ms)", "p99 (ms)")
    return Table("Side by side", (*columns, "memory (MiB)"), rows)


def notes(options: argparse.Namespace, size: int, apart: float) -> list[str]:
    """Return how it was measured."""
    cores = available_cores()
    return [
        f"{options.rounds} rounds of both in turns, {options.requests} requests a turn; the goal "
        "is the median of the ratios within a round.",
        f"The request: POST /predict with a multipart WAV of {size / 1e6:.2f} MB, the first "
        f"{SECONDS:g} s of a real recording; {CONCURRENCY} connections.",
        "CPU time: user and system time of all processes of a server (psutil). Memory: PSS of all "
        "after the last round. The feature cache is off.",
        f"The peer: `benchmarks/peers/fastapi_mfcc_cnn.py`, {cores} worker processes. It decodes "
        "with librosa, computes `librosa.feature.mfcc` of each 3 s and runs the network that "
        "Bandstand's export wrote. Both name the same genre; scores are at most "
        f"{apart:.1e} apart.",
    ]


if __name__ == "__main__":
    sys.exit(main())
