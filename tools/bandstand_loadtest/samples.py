"""What became of each request."""

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
        clip: what was sent.
        due: when it should have been sent.
        sent: when it was.
        finished: when its answer was here whole, or it had failed.
        answer: None where it failed.
        error: the stable name of the failure; None where it was answered.
    """

    clip: Clip
    due: float
    sent: float
    finished: float
    answer: Answer | None
    error: str | None = None

    @property
    def latency(self) -> float:
        """Seconds from when it was due: a request that waits to be sent waits nevertheless."""
        return self.finished - self.due

    @property
    def lateness(self) -> float:
        """Seconds that the generator itself was late."""
        return self.sent - self.due


@dataclass(slots=True)
class Log:
    """The samples of one run, in the order they finished.

    Attributes:
        samples: all of them.
        wall_seconds: how long the generator was at work.
        own_cpu_seconds: CPU time of this process meanwhile.
    """

    samples: list[Sample] = field(default_factory=list)
    wall_seconds: float = 0.0
    own_cpu_seconds: float = 0.0

    @property
    def answered(self) -> list[Sample]:
        """Those that were answered."""
        return [sample for sample in self.samples if sample.answer is not None]

    @property
    def span_seconds(self) -> float:
        """From when the first request was due until the last one was finished."""
        if not self.samples:
            return 0.0
        return max(s.finished for s in self.samples) - min(s.due for s in self.samples)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Take the times of a block."""
        started, cpu = perf_counter(), process_time()
        yield
        self.own_cpu_seconds = process_time() - cpu
        self.wall_seconds = perf_counter() - started
