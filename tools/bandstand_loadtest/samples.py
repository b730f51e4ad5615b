"""The result of each request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter, process_time

from bandstand_loadtest.clips import Clip
from bandstand_loadtest.targets.base import Answer


@dataclass(frozen=True, slots=True)
class Sample:
    """One request; times are seconds of `time.perf_counter`.

    Attributes:
        clip: the recording.
        due: time at which it should be sent.
        sent: time at which it was sent.
        finished: time at which its answer was complete, or it failed.
        answer: None if it failed.
        error: the stable name of the failure; None if it was answered.
    """

    clip: Clip
    due: float
    sent: float
    finished: float
    answer: Answer | None
    error: str | None = None

    @property
    def latency(self) -> float:
        """Seconds from the due time: waiting to be sent is part of the latency."""
        return self.finished - self.due

    @property
    def lateness(self) -> float:
        """Seconds by which the generator was late."""
        return self.sent - self.due


@dataclass(slots=True)
class Log:
    """The samples of one run, in the order they finished.

    Attributes:
        samples: all of them.
        wall_seconds: duration of the run.
        own_cpu_seconds: CPU time of this process during the run.
    """

    samples: list[Sample] = field(default_factory=list)
    wall_seconds: float = 0.0
    own_cpu_seconds: float = 0.0

    @property
    def answered(self) -> list[Sample]:
        """The answered requests."""
        return [sample for sample in self.samples if sample.answer is not None]

    @property
    def span_seconds(self) -> float:
        """Seconds from the due time of the first request until the last was finished."""
        if not self.samples:
            return 0.0
        return max(s.finished for s in self.samples) - min(s.due for s in self.samples)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measure the times of a block."""
        started, cpu = perf_counter(), process_time()
        yield
        self.own_cpu_seconds = process_time() - cpu
        self.wall_seconds = perf_counter() - started
