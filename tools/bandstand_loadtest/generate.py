"""Load generators: requests at given times, and so many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from time import perf_counter

from bandstand.runners.base import Array
from bandstand_loadtest.clips import Clip
from bandstand_loadtest.samples import Log, Sample
from bandstand_loadtest.targets.base import RequestFailedError, Target

_LEAD_SECONDS = 0.05  # before the first arrival, so that it is not late already

Watch = Callable[[Sample], None]
GoOn = Callable[[], bool]


async def open_loop(
    target: Target, clips: Iterator[Clip], arrivals: Array, watch: Watch, go_on: GoOn
) -> Log:
    """Send a request at each arrival, however many are still unanswered; wait for all answers.

    Args:
        target: what is asked.
        clips: what is sent, taken in order.
        arrivals: seconds after the start, ascending, shape (n,).
        watch: told of each request as it finishes.
        go_on: asked before each request; once false, no more are sent.
    """
    log = Log()
    with log.timed():
        start = perf_counter() + _LEAD_SECONDS
        async with asyncio.TaskGroup() as unanswered:
            for offset in arrivals.tolist():
                due = start + offset
                await asyncio.sleep(due - perf_counter())
                if not go_on():
                    break
                unanswered.create_task(_ask(target, next(clips), due, log, watch))
    return log


async def closed_loop(
    target: Target, clips: Iterator[Clip], in_flight: int, watch: Watch, go_on: GoOn
) -> Log:
    """Keep `in_flight` requests under way; each next one is due when one is answered.

    Args:
        target: what is asked.
        clips: what is sent, taken in order; the run ends where they do.
        in_flight: how many at a time.
        watch: told of each request as it finishes.
        go_on: asked before each request; once false, no more are sent.
    """
    log = Log()

    async def one_after_the_other() -> None:
        while go_on() and (clip := next(clips, None)) is not None:
            await _ask(target, clip, perf_counter(), log, watch)

    with log.timed():
        await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    return log


async def _ask(target: Target, clip: Clip, due: float, log: Log, watch: Watch) -> None:
    sent = perf_counter()
    answer, error = None, None
    try:
        answer = await target.classify(clip.content)
    except RequestFailedError as failure:
        error = failure.error_type
    sample = Sample(clip, due, sent, perf_counter(), answer, error)
    log.samples.append(sample)
    watch(sample)
