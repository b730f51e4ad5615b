"""What a load test reads from a Bandstand server's `/metrics`."""

from __future__ import annotations

from bandstand_loadtest.targets.base import Counters

_BATCHES = "bandstand_batch_rows_bucket"


def read_counters(text: str, model: str) -> Counters:
    """Read the batches of one model.

    Cached answers are not taken from here: each says so itself, and these count other clients' too.

    Args:
        text: the Prometheus exposition format.
        model: the card's name.
    """
    from prometheus_client.parser import text_string_to_metric_families

    up_to: dict[float, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == _BATCHES and sample.labels["model"] == model:
                up_to[float(sample.labels["le"])] = int(sample.value)
    return Counters(_by_size(up_to))


def _by_size(up_to: dict[float, int]) -> dict[str, int]:
    """Turn counts up to a size into counts from one size to the next."""
    counts = {}
    below, counted = 0.0, 0
    for size, count in sorted(up_to.items()):
        if size == float("inf"):
            name = f"{below + 1:.0f}+"
        elif size == below + 1:
            name = f"{size:.0f}"
        else:
            name = f"{below + 1:.0f}-{size:.0f}"
        counts[name] = count - counted
        below, counted = size, count
    return counts
