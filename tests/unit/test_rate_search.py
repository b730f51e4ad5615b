"""The search for the highest rate closes in on what a server can do, and believes no lucky run."""

from __future__ import annotations

import pytest

from bandstand_loadtest.search import find_highest_rate
from tests.load_tests import load_test, plan
from tests.paced_server import paced_server


@pytest.mark.parametrize("start", [0.5, 3.0, 37.2, 500.0])
@pytest.mark.parametrize("precision", [0.05, 0.01])
async def test_search_converges_on_a_known_capacity(start: float, precision: float) -> None:
    capacity = 37.3

    async def holds(rate: float) -> bool:
        return rate <= capacity

    found = await find_highest_rate(holds, holds, start, precision=precision)
    assert found.rate is not None
    assert capacity / (1 + precision) <= found.rate <= capacity
    assert found.attempts[-1].confirming
    assert len(found.attempts) < 20
    assert all(attempt.held == (attempt.rate <= capacity) for attempt in found.attempts)


async def test_luck_is_not_confirmed() -> None:
    """Short runs hold up to 50, long ones up to 45: what is said is what long ones hold."""

    async def short(rate: float) -> bool:
        return rate <= 50

    async def long(rate: float) -> bool:
        return rate <= 45

    found = await find_highest_rate(short, long, 10.0)
    assert found.rate is not None
    assert 45 / 1.05 <= found.rate <= 45
    confirming = [attempt for attempt in found.attempts if attempt.confirming]
    assert not confirming[0].held
    assert found.rate == max(attempt.rate for attempt in confirming if attempt.held)


async def test_no_rate_is_found_where_none_holds() -> None:
    async def never(_rate: float) -> bool:
        return False

    found = await find_highest_rate(never, never, 10.0)
    assert found.rate is None
    assert len(found.attempts) < 10


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
    if found.rate is None:  # a machine too busy to hold anything
        assert all(run.probe for run in runs)
        return
    (confirmed,) = (run for run in runs if not run.probe)
    assert confirmed.rate == found.rate
    assert confirmed.holds
    # What came within the bound was worked on, 20 ms each.
    for run in runs:
        if run.holds:
            assert run.requests * 0.02 * 0.98 <= run.seconds
            assert run.requests_per_second <= 1 / 0.02 * 1.02
