"""One run of a load test: its load, its figures and its checks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from bandstand_loadtest.measure import BUSY_SHARE, Accuracy, Generator, Latency, Stage
from bandstand_loadtest.samples import Log
from bandstand_loadtest.targets.base import Counters

Scenario = Literal["single-stream", "server", "offline", "sweep"]

LEAST_ACCURACY = 0.99
"""Share of answers that must have the label of the f32 reference."""


_LATE_MS, _LATE_SHARE_OF_BOUND = 10.0, 0.05


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of a run.

    Attributes:
        p99_ms: highest 99th percentile of latency in `server`; None: not bounded.
        late_share: largest share of requests that the generator may send late.
        allow_cache: accept answers from the server's caches.
    """

    p99_ms: float | None = None
    late_share: float = 0.05
    allow_cache: bool = False

    @property
    def late_ms(self) -> float:
        """Delay after which a request counts as late: large enough to affect the latency."""
        return max(_LATE_MS, _LATE_SHARE_OF_BOUND * (self.p99_ms or 0.0))


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a run, with its figure and its bound in the same unit."""

    about: Literal["server", "generator"]
    name: str
    measured: float
    relation: Literal["at most", "at least"]
    bound: float
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the figure is within the bound; NaN never is."""
        if self.relation == "at most":
            return self.measured <= self.bound
        return self.measured >= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, measured.

    Attributes:
        scenario: the kind of load.
        rate: requests a second that were due, for `server`.
        in_flight: requests in flight, for the others.
        requests: number of requests sent.
        errors: number of failures, by the name of the failure.
        seconds: from the due time of the first request until the last was finished.
        audio_seconds: length of all recordings that were answered.
        latency_ms: None if there are no answers.
        stages: the time of each stage, from the answers.
        batches: the model's batches during the run, by their number of rows.
        cache_hits: answers that came from the server's caches.
        accuracy: against the f32 reference.
        generator: its lateness and CPU use.
        checks: of the run.
        probe: whether the run is a probe of a search, which may miss its checks.
    """

    scenario: Scenario
    rate: float | None
    in_flight: int | None
    requests: int
    errors: Mapping[str, int]
    seconds: float
    audio_seconds: float
    latency_ms: Latency | None
    stages: tuple[Stage, ...]
    batches: Mapping[str, int]
    cache_hits: int
    accuracy: Accuracy
    generator: Generator
    checks: tuple[Check, ...]
    probe: bool = False

    @property
    def holds(self) -> bool:
        """Whether every check passed."""
        return all(check.holds for check in self.checks)

    @property
    def valid(self) -> bool:
        """Whether the generator was fast enough; otherwise the run is invalid."""
        return all(check.holds for check in self.checks if check.about == "generator")

    @property
    def answered(self) -> int:
        """Number of answered requests."""
        return self.accuracy.answers

    @property
    def requests_per_second(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds if self.seconds else 0.0

    @property
    def audio_seconds_per_second(self) -> float:
        """Seconds of audio answered in one second."""
        return self.audio_seconds / self.seconds if self.seconds else 0.0

    @property
    def load(self) -> str:
        """The load, for people."""
        if self.rate is not None:
            return f"{self.rate:.4g} a second"
        return f"{self.in_flight} in flight"


def measure_run(
    scenario: Scenario,
    log: Log,
    counted: Counters,
    bounds: Bounds,
    *,
    rate: float | None = None,
    in_flight: int | None = None,
    probe: bool = False,
) -> Run:
    """Compute the figures of a log, and check them against the bounds."""
    answered = log.answered
    errors = Counter(sample.error for sample in log.samples if sample.error is not None)
    seen = sum(sample.answer is not None and sample.answer.from_cache for sample in answered)
    run = Run(
        scenario=scenario,
        rate=rate,
        in_flight=in_flight,
        requests=len(log.samples),
        errors=dict(errors.most_common()),
        seconds=log.span_seconds,
        audio_seconds=sum(sample.clip.reference.seconds for sample in answered),
        latency_ms=Latency.of(answered),
        stages=Stage.all_of(answered),
        batches=counted.batches,
        cache_hits=max(counted.cache_hits, seen),
        accuracy=Accuracy.of(answered),
        generator=Generator.of(log, bounds.late_ms),
        checks=(),
        probe=probe,
    )
    return replace(run, checks=_checks(run, bounds))


def _checks(run: Run, bounds: Bounds) -> tuple[Check, ...]:
    failed, right = sum(run.errors.values()), run.accuracy.equal_share
    late, busy = run.generator.late_share, run.generator.cpu_share
    checks = [
        Check("server", "failed requests", failed, "at most", 0),
        Check("server", "share of right labels", right, "at least", LEAST_ACCURACY),
        Check("generator", "share sent late", late, "at most", bounds.late_share),
        Check("generator", "its use of a core", busy, "at most", BUSY_SHARE),
    ]
    if not bounds.allow_cache:
        checks.append(Check("server", "answers from caches", run.cache_hits, "at most", 0))
    if bounds.p99_ms is not None and run.scenario == "server":
        measured = math.inf if run.latency_ms is None else run.latency_ms.p99
        checks.append(Check("server", "p99 latency", measured, "at most", bounds.p99_ms, "ms"))
    return tuple(checks)
