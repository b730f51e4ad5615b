"""Due times of requests."""

from __future__ import annotations

import math

import numpy as np

from bandstand.runners.base import Array

_SPREAD = 6.0  # standard deviations added to the number of arrivals drawn


def poisson_arrivals(rate: float, seconds: float, fewest: int, seed: int) -> Array:
    """Draw the times of independent arrivals.

    Args:
        rate: arrivals a second on average.
        seconds: their duration.
        fewest: smallest number of arrivals; the duration is extended for them.
        seed: the same seed gives the same times.

    Returns:
        Seconds after the start, ascending, shape (n,), float64.
    """
    expected = rate * seconds
    enough = max(fewest, math.ceil(expected + _SPREAD * math.sqrt(expected))) + 1
    times = np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate, enough))
    within = int(np.searchsorted(times, seconds))
    return np.asarray(times[: max(within, fewest)])
