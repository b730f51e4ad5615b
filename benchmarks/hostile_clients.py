"""Latency of a good client, alone and beside clients that send nothing but hostile media.

Exit code 1 if the goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import httpx
import numpy as np

from benchmarks.goals import Goal, exit_code, goals_table
from benchmarks.processes import stop_what_was_started_on_sigterm
from benchmarks.recordings import SAMPLE_RATE, real_clip
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from harness.hostile_media import good_media, hostile_media
from harness.recordings import wav
from harness.serving import Server, serving

MODULE = "benchmarks.hostile_clients"
HOSTILE_CLIENTS = 4
CLIP_SECONDS = 30.0
# Of the goal of the project: "at most three times its p99 alone".
MOST_TIMES = 3.0
_BODIES_EACH = 250


@dataclass(slots=True)
class Latencies:
    """The seconds of the good client's answers, alone and beside, and of the hostile clients'."""

    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    hostile: list[float] = field(default_factory=list)


def main() -> int:
    """Measure, print and write the report; return 1 if the goal is missed."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="turns alone and beside")
    parser.add_argument("--requests", type=int, default=50, help="of the good client in a turn")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    options = parser.parse_args()
    stop_what_was_started_on_sigterm()
    facts = machine()
    with (
        tempfile.TemporaryDirectory() as directory,
        serving(Path(directory) / "log", feature_cache_entries=0) as server,
    ):
        seen = asyncio.run(measure(server, options.rounds, options.requests))
    times = percentile(seen.beside, 99) / percentile(seen.alone, 99)
    goals = [Goal("p99 beside hostile clients over p99 alone", times, MOST_TIMES)]
    text = write_report(
        "hostile_clients",
        "A good client beside hostile ones",
        command_line(MODULE),
        [goals_table(goals), latency_table(seen)],
        notes(options.rounds, options.requests),
        measured_on=facts,
        directory=options.results,
    )
    print(text)
    return exit_code(goals)


async def measure(server: Server, rounds: int, requests: int) -> Latencies:
    """Have the good client take turns alone, and beside the hostile ones."""
    seen = Latencies()
    bodies = [
        [content for _, content in hostile_media(seed, _BODIES_EACH)]
        for seed in range(HOSTILE_CLIENTS)
    ]
    clip = wav(real_clip(CLIP_SECONDS)[:, None], SAMPLE_RATE)
    await ask(server, [*good_media().values(), clip], [])
    for _ in range(rounds):
        await ask(server, [clip] * requests, seen.alone)
        hostile = [asyncio.create_task(annoy(server, each, seen.hostile)) for each in bodies]
        await ask(server, [clip] * requests, seen.beside)
        for task in hostile:
            task.cancel()
        await asyncio.gather(*hostile, return_exceptions=True)
    return seen


async def ask(server: Server, contents: list[bytes], seconds: list[float]) -> None:
    """Send recordings one after the other, and note the time of each answer."""
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
        for content in contents:
            started = time.monotonic()
            (await client.post("/predict", content=content)).raise_for_status()
            seconds.append(time.monotonic() - started)


async def annoy(server: Server, contents: list[bytes], seconds: list[float]) -> None:
    """Send hostile media one after the other until the task is cancelled."""
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
        for content in cycle(contents):
            started = time.monotonic()
            await client.post("/predict", content=content)
            seconds.append(time.monotonic() - started)


def percentile(seconds: list[float], which: float) -> float:
    """Return a percentile in milliseconds."""
    return float(np.percentile(seconds, which)) * 1e3


def latency_table(seen: Latencies) -> Table:
    """Return a row for each kind of client."""
    named = {"good, alone": seen.alone, "good, beside": seen.beside, "hostile": seen.hostile}
    rows = [
        (
            name,
            len(seconds),
            statistics.median(seconds) * 1e3,
            percentile(seconds, 99),
            max(seconds) * 1e3,
        )
        for name, seconds in named.items()
    ]
    return Table("Latency (ms)", ("client", "answers", "p50", "p99", "slowest"), rows)


def notes(rounds: int, requests: int) -> list[str]:
    """Return how it was measured."""
    return [
        f"{rounds} turns alone and beside, one after the other, of {requests} requests each: a WAV "
        f"of {CLIP_SECONDS:g} s, one request at a time, without the feature cache.",
        f"{HOSTILE_CLIENTS} hostile clients, each with one request at a time, send what "
        f"`harness/hostile_media.py` makes: {_BODIES_EACH} bodies each, flipped, cut, spliced, "
        "lying, nested, or made to take memory and time.",
        "The load generator shares the cores.",
    ]


if __name__ == "__main__":
    sys.exit(main())
