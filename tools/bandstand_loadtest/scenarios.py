"""MLPerf inference's scenarios, and a sweep of concurrency, against one target.

SingleStream sends one request at a time; Server sends them at random times, with any number in
flight; Offline keeps many in flight to measure the throughput.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from time import perf_counter

from bandstand.errors import UnusableRequestError
from bandstand_loadtest.clips import Clip, shuffled
from bandstand_loadtest.generate import GoOn, Watch, closed_loop, open_loop
from bandstand_loadtest.runs import Bounds, Run, Scenario, measure_run
from bandstand_loadtest.samples import Log, Sample
from bandstand_loadtest.schedule import poisson_arrivals
from bandstand_loadtest.search import find_highest_rate
from bandstand_loadtest.targets.base import Target

CONCURRENCIES = (1, 2, 4, 8, 16, 32)

_MOST_WARM_UPS = 32
_CONFIRMATION_FACTOR = 2.0
_START_IN_FLIGHT, _START_SHARE = 8, 0.5  # a search starts at this share of their throughput
_MOST_TRIES = 3  # of a rate at which the generator lagged
_MISSED_SHARE = 0.01  # with this share of slow answers, a 99th percentile is missed


@dataclass(frozen=True, slots=True)
class Plan:
    """Durations and bounds of runs.

    Attributes:
        seconds: shortest duration of a run.
        fewest: smallest number of requests in a run; a run can take longer for it.
        seed: of the order of clips and of the arrivals.
        bounds: of all runs.
    """

    seconds: float
    fewest: int
    seed: int
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Observer:
    """Callbacks for the progress.

    Attributes:
        prepares: called with the number of reference answers to compute.
        prepared: called after each reference answer.
        begins: called with the name of a run and its duration in seconds.
        finishes: called for each finished request.
    """

    prepares: Callable[[int], None] = lambda _clips: None
    prepared: Callable[[], None] = lambda: None
    begins: Callable[[str, float], None] = lambda _what, _seconds: None
    finishes: Watch = lambda _sample: None


class LoadTest:
    """Runs scenarios one after the other.

    Args:
        target: the server.
        clips: the recordings.
        plan: durations and bounds.
        observer: receives the progress.
    """

    def __init__(
        self, target: Target, clips: Sequence[Clip], plan: Plan, observer: Observer | None = None
    ) -> None:
        self._target = target
        self._clips = clips
        self._plan = plan
        self._observer = observer or Observer()

    async def warm_up(self) -> None:
        """Send every clip (or the first of them) once, without measuring.

        Raises:
            UnusableRequestError: the server answers from a cache, or with another version of the
                model than the reference answers.
            RequestFailedError: a clip was not answered.
        """
        self._observer.begins("warming up", 0.0)
        for clip in self._clips[:_MOST_WARM_UPS]:
            answer = await self._target.classify(clip.content)
            expected = clip.reference.version
            if None not in (answer.version, expected) and answer.version != expected:
                raise UnusableRequestError(
                    f"the server answers with version {answer.version} of the model, the reference "
                    f"is version {expected}"
                )
        await self._refuse_caches()

    async def _refuse_caches(self) -> None:
        if self._plan.bounds.allow_cache:
            return
        before = await self._target.counters()
        again = await self._target.classify(self._clips[0].content)
        counted = (await self._target.counters()).since(before)
        if again.from_cache or counted.cache_hits:
            raise UnusableRequestError(
                "the server answers from its cache, so the model would not be measured: "
                "start it with BANDSTAND_FEATURE_CACHE_ENTRIES=0 (Triton: without a response "
                "cache), or use --allow-cache"
            )

    async def single_stream(self) -> Run:
        """Send one request at a time: the latency without other requests."""
        return await self._closed("single-stream", 1)

    async def sweep(self, concurrencies: Sequence[int] = CONCURRENCIES) -> list[Run]:
        """Keep 1, 2, 4, … requests in flight, to find the highest throughput."""
        return [await self._closed("sweep", in_flight) for in_flight in concurrencies]

    async def offline(self, in_flight: int) -> Run:
        """Send all clips as fast as possible, in whole passes."""
        ends = perf_counter() + self._plan.seconds
        clips = shuffled(self._clips, self._plan.seed)

        def whole_passes() -> Iterator[Clip]:
            sent = 0
            while perf_counter() < ends or sent < self._plan.fewest:
                yield from islice(clips, len(self._clips))
                sent += len(self._clips)

        return await self._measured(
            "offline",
            lambda watch: closed_loop(self._target, whole_passes(), in_flight, watch, lambda: True),
            self._plan.seconds,
            in_flight=in_flight,
        )

    async def server(self, rate: float) -> Run:
        """Send requests at random times, `rate` a second on average."""
        return await self._open(rate, self._plan, probe=False)

    async def find_rate(
        self, start: float | None, precision: float
    ) -> tuple[float | None, list[Run]]:
        """Search the highest rate of `server` within the bounds.

        Args:
            start: the first rate to try; None: half of the throughput with a few requests in
                flight.
            precision: of the result, as a share.

        Returns:
            The rate (None: no rate is within the bounds), and all runs; the confirming run is no
            probe.
        """
        longer = replace(
            self._plan,
            seconds=self._plan.seconds * _CONFIRMATION_FACTOR,
            fewest=round(self._plan.fewest * _CONFIRMATION_FACTOR),
            seed=self._plan.seed + 1,
        )
        runs: list[Run] = []

        async def holds(plan: Plan, rate: float) -> bool:
            for _ in range(_MOST_TRIES):
                runs.append(await self._open(rate, plan, probe=True))
                if runs[-1].valid:
                    break
            return runs[-1].holds

        if start is None:
            trial = await self._closed("sweep", _START_IN_FLIGHT)
            start = max(0.1, _START_SHARE * trial.requests_per_second)
        found = await find_highest_rate(
            partial(holds, self._plan), partial(holds, longer), start, precision=precision
        )
        if found is not None:
            confirming = max(i for i, run in enumerate(runs) if run.rate == found)
            runs[confirming] = replace(runs[confirming], probe=False)
        return found, runs

    async def _closed(self, scenario: Scenario, in_flight: int) -> Run:
        clips = shuffled(self._clips, self._plan.seed)
        ends = perf_counter() + self._plan.seconds
        sent = 0

        def go_on() -> bool:
            nonlocal sent
            sent += 1
            return perf_counter() < ends or sent <= self._plan.fewest

        return await self._measured(
            scenario,
            lambda watch: closed_loop(self._target, clips, in_flight, watch, go_on),
            self._plan.seconds,
            in_flight=in_flight,
        )

    async def _open(self, rate: float, plan: Plan, *, probe: bool) -> Run:
        arrivals = poisson_arrivals(rate, plan.seconds, plan.fewest, plan.seed)
        verdict = _Verdict(len(arrivals), plan.bounds)
        clips = shuffled(self._clips, plan.seed)
        go_on: GoOn = verdict.open if probe else lambda: True

        def generate(watch: Watch) -> Awaitable[Log]:
            def watched(sample: Sample) -> None:
                verdict.add(sample)
                watch(sample)

            return open_loop(self._target, clips, arrivals, watched, go_on)

        seconds = float(arrivals[-1])
        return await self._measured("server", generate, seconds, rate=rate, probe=probe)

    async def _measured(
        self,
        scenario: Scenario,
        generate: Callable[[Watch], Awaitable[Log]],
        seconds: float,
        *,
        rate: float | None = None,
        in_flight: int | None = None,
        probe: bool = False,
    ) -> Run:
        load = f"{rate:.3g} a second" if rate is not None else f"{in_flight} in flight"
        self._observer.begins(f"{scenario}, {load}", seconds)
        before = await self._target.counters()
        log = await generate(self._observer.finishes)
        counted = (await self._target.counters()).since(before)
        return measure_run(
            scenario,
            log,
            counted,
            self._plan.bounds,
            rate=rate,
            in_flight=in_flight,
            probe=probe,
        )


class _Verdict:
    """Whether a probe can still pass; otherwise it ends early."""

    def __init__(self, requests: int, bounds: Bounds) -> None:
        self._may_miss = requests * _MISSED_SHARE
        self._bounds = bounds
        self._missed = 0
        self._failed = False

    def add(self, sample: Sample) -> None:
        """Count one finished request."""
        self._failed |= sample.error is not None
        bound = self._bounds.p99_ms
        self._missed += bound is not None and sample.latency * 1e3 > bound

    def open(self) -> bool:
        """Whether the probe can still pass."""
        return not self._failed and self._missed <= self._may_miss
