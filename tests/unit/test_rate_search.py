"""The search for the highest rate converges, and confirms its result."""

from __future__ import annotations

import pytest

from bandstand_loadtest.search import find_highest_rate
from tests.load_tests import load_test, plan
from tests.paced_server import paced_server


class Tries:
    """Holds up to a rate, and keeps what it was asked."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.rates: list[float] = []

    async def __call__(self, rate: float) -> bool:
        self.rates.append(rate)
        return rate <= self.capacity


@pytest.mark.parametrize("start", [0.5, 3.0, 37.2, 500.0])
@pytest.mark.parametrize("precision", [0.05, 0.01])
async def test_search_converges_on_a_known_capacity(start: float, precision: float) -> None:
    capacity = 37.3
    short, long = Tries(capacity), Tries(capacity)
    found = await find_highest_rate(short, long, start, precision=precision)
    assert found is not None
    assert capacity / (1 + precision) <= found <= capacity
    assert found in long.rates
    assert len(short.rates) + len(long.rates) < 20


async def test_luck_is_not_confirmed() -> None:
    """Short runs hold up to 50, long ones up to 45: what is said is what long ones hold."""
    long = Tries(45)
    found = await find_highest_rate(Tries(50), long, 10.0)
    assert found is not None
    assert 45 / 1.05 <= found <= 45
    assert long.rates[0] > 45
    assert found == max(rate for rate in long.rates if rate <= 45)


async def test_no_rate_is_found_where_none_holds() -> None:
    short, long = Tries(0), Tries(0)
    assert await find_highest_rate(short, long, 10.0) is None
    assert len(short.rates) < 10
    assert long.rates == []


async def test_the_rate_found_is_one_that_the_server_can_do() -> None:
    """It works 20 ms on each, one at a time: above 50 a second the queue outgrows any bound."""
    bound_ms, seconds = 250.0, 0.5
    given = plan(seconds=seconds, fewest=10, p99_ms=bound_ms)
    with paced_server(0.02) as server:
        async with load_test(server.url, given) as test:
            found, runs = await test.find_rate(start=200.0, precision=0.1)
    first = runs[0]
    assert first.rate == 200.0
    assert not first.holds
    assert first.requests < 100  # cut short once it could not hold any more
    if found is None:  # a machine too busy to hold anything
        assert all(run.probe for run in runs)
        return
    (confirmed,) = (run for run in runs if not run.probe)
    assert confirmed.rate == found
    assert confirmed.holds
    # What came within the bound was worked on, 20 ms each.
    for run in runs:
        if run.holds:
            assert run.requests * 0.02 * 0.98 <= run.seconds
            assert run.requests_per_second <= 1 / 0.02 * 1.02
