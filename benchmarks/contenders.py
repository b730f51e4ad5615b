"""Who takes part in a comparison: a server that is asked, or the same work without one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from typing import Protocol

from bandstand.audio.decode import DecodeLimits
from bandstand.models.card import Card
from bandstand.pipelines.prepare import prepare
from bandstand.runners.base import Runner
from benchmarks.load import drive
from benchmarks.processes import Endpoint, cpu_seconds


@dataclass(frozen=True, slots=True)
class Turn:
    """Some requests in a row.

    Attributes:
        cpu_ms: CPU milliseconds a request.
        per_second: requests a second.
        load_cpu_ms: what the load generator used for a request, not in `cpu_ms`.
        latencies: seconds of each request.
    """

    cpu_ms: float
    per_second: float
    load_cpu_ms: float = 0.0
    latencies: Sequence[float] = ()


class Work(Protocol):
    """What can be measured in turns."""

    def run(self, requests: int) -> Turn:
        """Do it so many times."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """One request asked of one server, again and again."""

    server: Endpoint
    request: bytes
    concurrency: int

    def run(self, requests: int) -> Turn:
        """Ask; the CPU time is that of all processes of the server.

        Raises:
            RuntimeError: an answer was no 200.
        """
        before = cpu_seconds(self.server.processes)
        load = drive(self.server.url, repeat(self.request, requests), self.concurrency)
        used = cpu_seconds(self.server.processes) - before
        if load.statuses != Counter({200: requests}):
            raise RuntimeError(f"{self.server.url} answered {dict(load.statuses)}")
        return Turn(
            cpu_ms=1e3 * used / requests,
            per_second=requests / load.wall_seconds,
            load_cpu_ms=1e3 * load.own_cpu_seconds / requests,
            latencies=load.latencies,
        )


@dataclass(frozen=True, slots=True)
class InProcess:
    """Decoding, features and model in this process, `threads` recordings at a time."""

    audio: bytes
    card: Card
    runner: Runner
    limits: DecodeLimits
    threads: int

    def run(self, requests: int) -> Turn:
        """Work; the CPU time is that of all threads of this process."""
        with ThreadPoolExecutor(self.threads) as pool:
            wall, cpu = time.perf_counter(), time.process_time()
            for done in [pool.submit(self._answer) for _ in range(requests)]:
                done.result()
            used, taken = time.process_time() - cpu, time.perf_counter() - wall
        return Turn(cpu_ms=1e3 * used / requests, per_second=requests / taken)

    def _answer(self) -> None:
        self.runner.run(prepare(self.audio, (self.card,), self.limits).of(self.card).inputs)


@dataclass(slots=True)
class Contender:
    """Who is measured, in how many turns of how many requests, and the turns so far."""

    work: Work
    rounds: int
    requests: int
    turns: list[Turn] = field(default_factory=list)

    def warm_up(self) -> None:
        """Take a short turn that does not count."""
        self.work.run(min(8, self.requests))

    def take_turn(self) -> None:
        """Take one that does, unless all are taken."""
        if len(self.turns) < self.rounds:
            self.turns.append(self.work.run(self.requests))
