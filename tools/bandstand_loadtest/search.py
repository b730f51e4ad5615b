"""The highest rate within the bounds: bracketed by doubling, then bisection, then confirmed."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

_MOST_DOUBLINGS = 16
_MOST_HALVINGS = 6
_MOST_CONFIRMATIONS = 5

Probe = Callable[[float], Awaitable[bool]]


async def find_highest_rate(
    holds: Probe, confirms: Probe, start: float, *, precision: float = 0.05
) -> float | None:
    """Search the highest rate at which a server is within its bounds.

    Args:
        holds: runs at a rate and returns whether all checks passed.
        confirms: the same, longer and with other arrivals.
        start: the first rate to try, requests a second.
        precision: largest distance from the result to the lowest rate that failed, as a share.

    Returns:
        The highest rate that passed and was confirmed, requests a second; None: none did.
    """
    low, _ = await _narrow(holds, *await _bracket(holds, start), precision)
    if low:
        confirmed, failed = await _fall_back(confirms, low, precision)
        low, _ = await _narrow(confirms, confirmed, failed, precision)
    return low or None


async def _bracket(holds: Probe, start: float) -> tuple[float, float]:
    """Return a rate that passes (0: none) and a higher one that fails (infinity: none tried)."""
    rate = start
    if await holds(rate):
        for _ in range(_MOST_DOUBLINGS):
            if not await holds(2 * rate):
                return rate, 2 * rate
            rate *= 2
        return rate, math.inf
    for _ in range(_MOST_HALVINGS):
        if await holds(rate / 2):
            return rate / 2, rate
        rate /= 2
    return 0.0, rate


async def _fall_back(holds: Probe, rate: float, precision: float) -> tuple[float, float]:
    """Go down from a rate that passed once, in growing steps; return the same as `_bracket`."""
    high = math.inf
    for doublings in range(_MOST_CONFIRMATIONS):
        if await holds(rate):
            return rate, high
        high, rate = rate, rate * (1 - min(0.5, precision * 2**doublings))
    return 0.0, high


async def _narrow(holds: Probe, low: float, high: float, precision: float) -> tuple[float, float]:
    """Halve the interval between a rate that passes and one that fails, down to `precision`."""
    while low and high < math.inf and high > low * (1 + precision):
        middle = math.sqrt(low * high)
        if await holds(middle):
            low = middle
        else:
            high = middle
    return low, high
