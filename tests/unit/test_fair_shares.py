"""Turns and bytes are given out fairly: between clients, between models, and none is lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from bandstand.errors import OverloadedError
from bandstand.fair_shares import FairShares, Groups, Limit
from bandstand.settings import Settings
from bandstand_bentos.admission import Admission
from bandstand_bentos.body_bytes import BodyBytes
from bandstand_bentos.shares import client_of, share_of

PATIENCE_SECONDS = 60.0
A: Groups = (("client", "a"),)
B: Groups = (("client", "b"),)
ALL = ("all", "")


class Asking:
    """Requests of an admission: each starts in its turn, and runs until it is told to end."""

    def __init__(self, **settings: object) -> None:
        whole = {"client_share": 1.0, "model_share": 1.0, "max_queued": 64}
        self.admission = Admission(Settings(**{**whole, **settings}))
        self.started: list[str] = []
        self.running: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(
        self, name: str, client: str = "a", model: str | None = None, turns: int = 1
    ) -> None:
        """Ask for a turn; return when the request runs or waits."""

        async def run() -> None:
            async with self.admission.turn(client, model, turns):
                self.started.append(name)
                self.running[name] = asyncio.Event()
                await self.running[name].wait()

        self.tasks[name] = asyncio.create_task(run())
        await settled()

    async def end(self, name: str) -> None:
        """Let a request end; return when what follows has started."""
        self.running.pop(name).set()
        await self.tasks[name]
        await settled()

    async def end_all(self) -> None:
        while self.running:
            await self.end(next(iter(self.running)))


async def settled() -> None:
    """Let every task go on as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_requests_of_one_client_are_served_in_order_of_arrival() -> None:
    asking = Asking(max_in_flight=3)
    for name, turns in {"1": 2, "2": 2, "3": 1, "4": 8, "5": 1}.items():
        await asking.ask(name, turns=turns)
    assert asking.started == ["1"]  # the second needs two turns, and the third does not pass it
    await asking.end("1")
    assert asking.started == ["1", "2", "3"]
    await asking.end("2")
    await asking.end("3")
    assert asking.started == ["1", "2", "3", "4"]  # with all there are, and alone
    await asking.end("4")
    assert asking.started == ["1", "2", "3", "4", "5"]
    await asking.end_all()


@pytest.mark.parametrize("greedy", [1, 3])
async def test_one_request_is_next_however_many_others_wait(greedy: int) -> None:
    asking = Asking(max_in_flight=4)
    for n in range(40):
        await asking.ask(f"greedy {n}", client=f"greedy {n % greedy}")
    await asking.ask("good", client="good")
    for _ in range(4):
        await asking.end(next(iter(asking.running)))
    assert "good" in asking.started
    await asking.end_all()
    assert len(asking.started) == 41


async def test_a_client_has_its_share_and_no_more() -> None:
    asking = Asking(max_in_flight=5, client_share=0.5)
    for n in range(10):
        await asking.ask(f"greedy {n}", client="greedy")
    assert len(asking.started) == 3
    await asking.ask("good", client="good")
    assert asking.started[3:] == ["good"]
    await asking.end("good")
    assert len(asking.running) == 3
    await asking.end_all()


async def test_a_model_that_hangs_holds_no_place_of_another() -> None:
    asking = Asking(max_in_flight=4, max_queued=8, model_share=0.5)
    for n in range(6):
        await asking.ask(f"hanging {n}", model="hanging")
    assert asking.started == ["hanging 0", "hanging 1"]
    await asking.ask("other", model="other")
    await asking.ask("without", model=None)
    assert asking.started[2:] == ["other", "without"]
    with pytest.raises(OverloadedError, match="same model") as refusal:
        async with asking.admission.turn("b", "hanging"):
            pass
    assert refusal.value.retry_after
    await asking.end("other")
    await asking.ask("another", model="other")
    assert "another" in asking.started
    await asking.end_all()


async def test_a_model_that_hangs_holds_no_place_of_the_same_client() -> None:
    asking = Asking(max_in_flight=8, client_share=0.5, model_share=0.75)
    for n in range(6):
        await asking.ask(f"hanging {n}", client="a", model="hanging")
    assert len(asking.started) == 3
    await asking.ask("other", client="a", model="other")
    assert "other" in asking.started
    await asking.end_all()


async def test_who_leaves_the_queue_takes_nothing_along() -> None:
    asking = Asking(max_in_flight=2)
    for name, turns in {"1": 1, "2": 2, "3": 1}.items():
        await asking.ask(name, turns=turns)
    assert asking.started == ["1"]
    asking.tasks["2"].cancel()
    await settled()
    assert asking.started == ["1", "3"]  # it was in the way
    asking.tasks["1"].cancel()
    asking.tasks["3"].cancel()
    await settled()
    await asking.ask("4", turns=2)
    assert asking.started[-1] == "4"
    await asking.end("4")


async def test_a_turn_given_to_one_who_just_left_is_given_on() -> None:
    shares = FairShares(1, {})
    await shares.take(1, A)
    waiting = asyncio.create_task(shares.take(1, A))
    await settled()
    shares.give_back(1, A)
    waiting.cancel()  # it has its turn, and does not know yet
    await settled()
    assert waiting.cancelled()
    assert shares.take_now(1, B)


def test_a_full_house_is_full_for_each_client_by_itself() -> None:
    admission = Admission(Settings(max_in_flight=2, max_queued=4, client_share=0.5))
    inside = [admission.entered("greedy") for _ in range(3)]
    for one in inside:
        one.__enter__()
    with pytest.raises(OverloadedError), admission.entered("greedy"):
        pass
    with admission.entered("good"):
        pass
    inside[0].__exit__(None, None, None)
    with admission.entered("greedy"):
        pass


async def test_none_is_lost_and_no_limit_exceeded_in_any_order() -> None:
    choose = random.Random(1)  # noqa: S311 - no secret
    limits = {"client": Limit(6), "model": Limit(5)}
    shares, total = FairShares(9, limits), 9
    held: Counter[tuple[str, str]] = Counter()
    served = left = 0

    async def one() -> None:
        nonlocal served
        groups: Groups = (("client", choose.choice("abc")), ("model", choose.choice("xyz")))
        taken = await shares.take(choose.randint(1, 12), groups)
        held.update(dict.fromkeys((*groups, ALL), taken))
        try:
            assert held[ALL] <= total
            assert all(held[group] <= limits[group[0]].held for group in groups)
            for _ in range(choose.randint(0, 5)):
                await asyncio.sleep(0)
            served += 1
        finally:
            held.subtract(dict.fromkeys((*groups, ALL), taken))
            shares.give_back(taken, groups)

    tasks = []
    for _ in range(3_000):
        tasks.append(asyncio.create_task(one()))
        if choose.random() < 0.5:
            await asyncio.sleep(0)
        if choose.random() < 0.2:
            left += choose.choice(tasks).cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    gone = [result for result in results if isinstance(result, asyncio.CancelledError)]
    assert len(gone) + served == 3_000
    assert left >= len(gone) > 0
    assert {type(result) for result in results} == {type(None), asyncio.CancelledError}
    assert shares.take_now(total, ())


# Bytes.


async def test_a_body_waits_until_there_is_room_and_then_has_it() -> None:
    shares = FairShares(100 * 2**20, {"client": Limit(64 * 2**20)})
    first, second, third = BodyBytes(shares, A), BodyBytes(shares, A), BodyBytes(shares, B)
    await first.wait_for(60 * 2**20)
    waiting = asyncio.create_task(second.wait_for(50 * 2**20))
    await settled()
    assert not waiting.done()
    await third.wait_for(30 * 2**20)  # of another client: there is room
    first.shrink_to(0)
    await waiting
    assert (first.held, second.held, third.held) == (0, 50 * 2**20, 30 * 2**20)


async def test_a_small_body_does_not_wait_behind_a_large_one() -> None:
    shares = FairShares(10 * 2**20, {})
    large, waits, small = BodyBytes(shares, A), BodyBytes(shares, B), BodyBytes(shares, A)
    await large.wait_for(6 * 2**20)
    waiting = asyncio.create_task(waits.wait_for(5 * 2**20))
    await settled()
    await small.wait_for(1000)
    assert not waiting.done()
    large.shrink_to(0)
    await waiting


async def test_a_body_of_unknown_length_never_waits_with_a_part_in_its_hands() -> None:
    shares = FairShares(10 * 2**20, {})
    first, second = BodyBytes(shares, A), BodyBytes(shares, B)
    first.grow_to(4 * 2**20)
    second.grow_to(5 * 2**20 + 1)
    assert second.held == 6 * 2**20
    with pytest.raises(OverloadedError):
        first.grow_to(4 * 2**20 + 1)
    second.shrink_to(0)
    first.grow_to(2**30)  # more than there is: all of it
    assert first.held == 10 * 2**20


# Names and numbers.


@pytest.mark.parametrize(
    ("total", "share", "part"),
    [(16, 0.5, 8), (5, 0.5, 3), (1, 0.5, 1), (0, 0.5, 0), (30, 0.1, 3), (7, 1.0, 7), (9, 0.01, 1)],
)
def test_a_share_is_rounded_up(total: int, share: float, part: int) -> None:
    assert share_of(total, share) == part


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_an_ipv6_client_is_one_with_all_its_addresses(address: str, client: str) -> None:
    assert client_of(address) == client
