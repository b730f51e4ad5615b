"""Batching never mixes, reorders or fails other submissions, nor computes cancelled ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import numpy as np
import pytest

from bandstand.errors import (
    ModelMismatchError,
    NonFiniteOutputError,
    UnavailableError,
    UnusableRequestError,
)
from bandstand.runners.base import Array
from bandstand.runners.batching import MicroBatcher

POISON = 13.0
"""A row that the model fails for, whatever stands beside it."""


class Model:
    """Doubles its rows; remembers its calls; can be held up, to let a queue grow."""

    def __init__(self) -> None:
        self.calls: list[list[float]] = []
        self.threads: set[int] = set()
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)

    def __call__(self, inputs: dict[str, Array]) -> dict[str, Array]:
        self.entered.release()
        assert self.open.wait(30)
        x = inputs["x"]
        self.calls.append(x[:, 0].tolist())
        self.threads.add(threading.get_ident())
        if (x == POISON).any():
            raise UnusableRequestError("poison")
        return {"y": 2 * x, "first": x[:, 0]}


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
async def batcher(model: Model) -> AsyncIterator[MicroBatcher]:
    batcher = MicroBatcher(model, max_size=4)
    yield batcher
    model.open.set()
    await batcher.aclose()


def rows(*values: float) -> dict[str, Array]:
    return {"x": np.array([[v, v] for v in values], np.float32)}


async def hold(model: Model, batcher: MicroBatcher) -> asyncio.Task[dict[str, Array]]:
    """Keep the worker busy with one row until `model.open` is set."""
    model.open.clear()
    task = asyncio.create_task(batcher.submit(rows(0)))
    await asyncio.to_thread(model.entered.acquire)
    return task


async def begin(*submissions: Awaitable[Any]) -> list[asyncio.Task[Any]]:
    """Start submissions in order and let them reach the queue."""
    tasks = [asyncio.ensure_future(s) for s in submissions]
    await asyncio.sleep(0)
    return tasks


async def test_what_comes_while_the_model_is_busy_becomes_one_call_in_order(
    model: Model, batcher: MicroBatcher
) -> None:
    first = await hold(model, batcher)
    tasks = await begin(*(batcher.submit(rows(v)) for v in range(1, 7)))
    model.open.set()
    answers = await asyncio.gather(first, *tasks)
    assert model.calls == [[0], [1, 2, 3, 4], [5, 6]]
    assert [a["y"].tolist() for a in answers] == [[[2 * v, 2 * v]] for v in range(7)]
    assert [a["first"].tolist() for a in answers] == [[v] for v in range(7)]
    assert all(a["y"].base is None for a in answers)
    assert len(model.threads) == 1


async def test_a_lone_request_is_computed_alone_and_at_once(
    model: Model, batcher: MicroBatcher
) -> None:
    for value in (1, 2):
        await batcher.submit(rows(value))
    assert model.calls == [[1], [2]]


async def test_whole_submissions_are_stacked_while_they_fit(
    model: Model, batcher: MicroBatcher
) -> None:
    first = await hold(model, batcher)
    tasks = await begin(*(batcher.submit(rows(*v)) for v in ([1, 2, 3], [4, 5], [6, 7], [8])))
    model.open.set()
    await asyncio.gather(first, *tasks)
    assert model.calls[1:] == [[1, 2, 3], [4, 5, 6, 7], [8]]


async def test_a_large_submission_is_cut_and_joined(model: Model, batcher: MicroBatcher) -> None:
    answer = await batcher.submit(rows(*range(1, 11)))
    assert answer["first"].tolist() == list(range(1, 11))
    assert [len(call) for call in model.calls] == [4, 4, 2]


async def test_waiting_for_company_ends_with_a_full_batch(model: Model) -> None:
    batcher = MicroBatcher(model, max_size=3, max_delay_ms=60_000)
    answers = await asyncio.wait_for(
        asyncio.gather(*(batcher.submit(rows(v)) for v in (1, 2, 3))), timeout=30
    )
    assert model.calls == [[1, 2, 3]]
    assert len(answers) == 3
    last = await begin(batcher.submit(rows(4)))
    await batcher.aclose()  # ends the waiting, too
    assert (await last[0])["first"].tolist() == [4]


async def test_waiting_for_company_ends_with_time(model: Model) -> None:
    batcher = MicroBatcher(model, max_size=3, max_delay_ms=5)
    assert (await batcher.submit(rows(1)))["first"].tolist() == [1]
    await batcher.aclose()


async def test_a_bad_row_fails_its_submitter_and_no_neighbour(
    model: Model, batcher: MicroBatcher
) -> None:
    first = await hold(model, batcher)
    tasks = await begin(*(batcher.submit(rows(v)) for v in (1, POISON, 3)))
    model.open.set()
    before, bad, after = await asyncio.gather(*tasks, return_exceptions=True)
    await first
    assert isinstance(bad, UnusableRequestError)
    assert before["first"].tolist() == [1]
    assert after["first"].tolist() == [3]


async def test_a_large_submission_with_a_bad_row_fails_and_stops(
    model: Model, batcher: MicroBatcher
) -> None:
    with pytest.raises(UnusableRequestError):
        await batcher.submit(rows(POISON, *range(1, 40)))
    assert (await batcher.submit(rows(50)))["first"].tolist() == [50]
    assert len(model.calls) < 10  # of the ten pieces most were never computed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
async def test_a_non_finite_answer_is_withheld_from_its_submitter_alone(
    model: Model, batcher: MicroBatcher, bad: float
) -> None:
    first = await hold(model, batcher)
    tasks = await begin(*(batcher.submit(rows(*v)) for v in ([1], [2, bad], [3])))
    model.open.set()
    before, withheld, after = await asyncio.gather(*tasks, return_exceptions=True)
    await first
    assert isinstance(withheld, NonFiniteOutputError)
    assert [before["first"][0], after["first"][0]] == [1, 3]
    assert len(model.calls) == 2  # found in the batch, nothing computed again


async def test_inputs_of_other_shapes_are_not_stacked(model: Model, batcher: MicroBatcher) -> None:
    first = await hold(model, batcher)
    wide = {"x": np.full((1, 5), 2, np.float32)}
    tasks = await begin(*map(batcher.submit, (rows(1), wide, rows(3))))
    model.open.set()
    answers = await asyncio.gather(*tasks)
    await first
    assert model.calls == [[0], [1], [2], [3]]
    assert answers[1]["y"].shape == (1, 5)


async def test_who_is_cancelled_costs_nothing(model: Model, batcher: MicroBatcher) -> None:
    first = await hold(model, batcher)
    gone, stays = await begin(batcher.submit(rows(1)), batcher.submit(rows(2)))
    gone.cancel()
    await asyncio.sleep(0)
    model.open.set()
    await asyncio.gather(first, stays)
    assert gone.cancelled()
    assert model.calls == [[0], [2]]


async def test_who_is_cancelled_while_computed_harms_nobody(
    model: Model, batcher: MicroBatcher
) -> None:
    first = await hold(model, batcher)
    first.cancel()
    (second,) = await begin(batcher.submit(rows(2)))
    model.open.set()
    assert (await second)["first"].tolist() == [2]
    assert first.cancelled()


async def test_whose_client_is_gone_costs_nothing(model: Model, batcher: MicroBatcher) -> None:
    async def gone() -> bool:
        return False

    async def here() -> bool:
        return True

    async def broken() -> bool:
        raise ConnectionError("no idea")

    first = await hold(model, batcher)
    tasks = await begin(
        batcher.submit(rows(1), gone),
        batcher.submit(rows(2), here),
        batcher.submit(rows(3), broken),
        batcher.submit(rows(4)),
    )
    model.open.set()
    one, two, three, four = await asyncio.gather(*tasks, return_exceptions=True)
    await first
    assert model.calls == [[0], [2, 4]]
    assert isinstance(one, UnavailableError)
    assert isinstance(three, ConnectionError)
    assert [two["first"][0], four["first"][0]] == [2, 4]


async def test_a_model_that_loses_rows_is_caught(model: Model) -> None:
    batcher = MicroBatcher(lambda inputs: {"y": inputs["x"][:1]}, max_size=4)
    with pytest.raises(ModelMismatchError, match="2 rows"):
        await batcher.submit(rows(1, 2))
    await batcher.aclose()


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"x": np.zeros((0, 2), np.float32)},
        {"x": np.float32(1)},
        {"x": np.zeros((2, 1)), "z": np.zeros((3, 1))},
    ],
)
async def test_a_batch_without_rows_is_refused(batcher: MicroBatcher, inputs: Any) -> None:
    with pytest.raises(UnusableRequestError):
        await batcher.submit({name: np.asarray(a) for name, a in inputs.items()})


async def test_closing_answers_what_is_queued(model: Model, batcher: MicroBatcher) -> None:
    first = await hold(model, batcher)
    tasks = await begin(*(batcher.submit(rows(v)) for v in (1, 2)))
    closing = asyncio.create_task(batcher.aclose())
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError):
        await batcher.submit(rows(3))
    model.open.set()
    await closing
    assert [(await task)["first"][0] for task in (first, *tasks)] == [0, 1, 2]


async def test_closing_without_drain_refuses_what_is_queued(
    model: Model, batcher: MicroBatcher
) -> None:
    first = await hold(model, batcher)
    tasks = await begin(*(batcher.submit(rows(v)) for v in (1, 2)))
    closing = asyncio.create_task(batcher.aclose(drain=False))
    await asyncio.sleep(0)
    model.open.set()
    await closing
    assert (await first)["first"].tolist() == [0]
    for task in tasks:
        with pytest.raises(UnavailableError):
            await task


async def test_the_observer_hears_every_call_and_cannot_break_it(model: Model) -> None:
    heard: list[int] = []

    def observe(rows: int, seconds: float, queued: float) -> None:
        assert seconds >= 0
        assert queued >= 0
        heard.append(rows)
        raise RuntimeError("a broken metric")

    batcher = MicroBatcher(model, max_size=4, on_batch=observe)
    for _ in range(2):
        assert (await batcher.submit(rows(1, 2, 3, 4, 5)))["first"].tolist() == [1, 2, 3, 4, 5]
    await batcher.aclose()
    assert heard == [4, 1, 4, 1]


async def test_a_storm_of_everything_gives_each_its_own_answer(
    model: Model, batcher: MicroBatcher
) -> None:
    random = np.random.default_rng(0)

    async def one(number: int) -> None:
        await asyncio.sleep(float(random.random()) / 50)
        values = [100.0 * number + i for i in range(int(random.integers(1, 9)))]
        kind = number % 5
        if kind == 0:
            values[-1] = POISON
            with pytest.raises(UnusableRequestError):
                await batcher.submit(rows(*values))
        elif kind == 1:
            values[-1] = np.nan
            with pytest.raises(NonFiniteOutputError):
                await batcher.submit(rows(*values))
        else:
            assert (await batcher.submit(rows(*values)))["first"].tolist() == values

    await asyncio.gather(*(one(n) for n in range(300)))
    assert max(map(len, model.calls)) == 4
