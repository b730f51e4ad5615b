"""Figures from samples: latency, stages, accuracy, and lateness of the generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bandstand.runners.base import Array
from bandstand_loadtest.samples import Log, Sample

BUSY_SHARE = 0.9
"""A generator that uses more of one core than this measures itself."""

_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9, "highest": 100.0}
_BINS_A_DOUBLING = 4
_PIPELINE_STAGES = ("prepare", "total")  # sums of others


def percentile(values: Array, share: float) -> float:
    """Return the nearest-rank percentile: one of the measured values."""
    return float(np.percentile(values, share, method="inverted_cdf"))


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from a request's due time to the last byte of its answer, without failures.

    Attributes:
        mean: average; the others are percentiles.
        edges: bounds of the histogram's bins, growing by a fixed ratio; shape (bins + 1,).
        counts: answers in each bin.
    """

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    p99_9: float
    highest: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Latency | None:
        """Compute the latencies; None if there are no answers."""
        if not samples:
            return None
        values = np.array([sample.latency for sample in samples]) * 1e3
        low, high = np.log2(values.min()), np.log2(values.max())
        # Slightly wider than the values, because of rounding.
        bins = int((high - low) * _BINS_A_DOUBLING) + 1
        edges = np.logspace(low - 0.01, high + 0.01, bins + 1, base=2.0)
        counts, _ = np.histogram(values, edges)
        ranks = {name: percentile(values, share) for name, share in _PERCENTILES.items()}
        return cls(
            mean=float(values.mean()),
            **ranks,
            edges=tuple(edges.tolist()),
            counts=tuple(counts.tolist()),
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """Milliseconds of one stage of an answer, over all answers."""

    name: str
    mean: float
    p50: float
    p99: float

    @classmethod
    def all_of(cls, samples: Sequence[Sample]) -> tuple[Stage, ...]:
        """Divide the latency into stages, in the order of the work.

        The stages of the answers come first, with their names. `hops and waiting` is the rest of
        the answers' total: transfers and queues between processes. `outside` is the rest of the
        latency: the network, and waiting for admission.
        """
        measured = [sample for sample in samples if sample.answer and sample.answer.timings_ms]
        if not measured:
            return ()
        rows = [_divided(sample) for sample in measured]
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: np.array([row.get(name, 0.0) for row in rows]) for name in names}
        return tuple(
            cls(name, float(values.mean()), percentile(values, 50), percentile(values, 99))
            for name, values in columns.items()
        )


def _divided(sample: Sample) -> dict[str, float]:
    timings = dict(sample.answer.timings_ms) if sample.answer else {}
    total = timings.get("total")
    parts = {name: ms for name, ms in timings.items() if name not in _PIPELINE_STAGES}
    if total is None:
        total = sum(parts.values())
    else:
        parts["hops and waiting"] = max(0.0, total - sum(parts.values()))
    parts["outside"] = max(0.0, sample.latency * 1e3 - total)
    return parts


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The answers compared with those of the same model in process, in f32.

    Attributes:
        answers: number of compared answers.
        equal_share: share of them with the same primary label.
        largest_difference: of any score, 0 to 1.
        worst_clip: the clip with this difference.
    """

    answers: int
    equal_share: float
    largest_difference: float
    worst_clip: str | None

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Accuracy:
        """Compare every answer with its clip's reference."""
        equal, largest, worst = 0, 0.0, None
        for sample in samples:
            if sample.answer is None:
                continue
            expected = sample.clip.reference
            equal += sample.answer.primary == expected.primary
            difference = _difference(sample.answer.scores, expected.scores)
            if difference > largest:
                largest, worst = difference, sample.clip.name
        return cls(len(samples), equal / len(samples) if samples else 0.0, largest, worst)


def _difference(scores: Mapping[str, float], expected: Mapping[str, float]) -> float:
    """Return the largest difference; other labels, or a NaN, give the maximum."""
    if scores.keys() != expected.keys():
        return 1.0
    largest = np.max(np.abs([scores[label] - expected[label] for label in expected]))
    return 1.0 if np.isnan(largest) else float(largest)


@dataclass(frozen=True, slots=True)
class Generator:
    """Lateness and CPU use of the load generator.

    Attributes:
        late_share: share of requests sent too late.
        worst_late_ms: the longest delay of a request by the generator.
        cpu_share: its share of one core.
    """

    late_share: float
    worst_late_ms: float
    cpu_share: float

    @classmethod
    def of(cls, log: Log, late_ms: float) -> Generator:
        """Compute the figures of the generator; a request is late after `late_ms`."""
        late = np.array([sample.lateness for sample in log.samples] or [0.0])
        return cls(
            late_share=float(np.mean(late * 1e3 > late_ms)),
            worst_late_ms=float(late.max()) * 1e3,
            cpu_share=log.own_cpu_seconds / log.wall_seconds if log.wall_seconds else 0.0,
        )
