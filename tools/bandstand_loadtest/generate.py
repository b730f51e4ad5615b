"""Load generators: requests at given times, or with a constant number in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from time import perf_counter

from bandstand.runners.base import Array
from bandstand_loadtest.clips import Clip
from bandstand_loadtest.samples import Log, Sample
from bandstand_loadtest.targets.base import RequestFailedError, Target

_LEAD_SECONDS = 0.05  # before the first arrival, so that it is not late

Watch = Callable[[Sample], None]
GoOn = Callable[[], bool]


async def open_loop(
    target: Target, clips: Iterator[Clip], arrivals: Array, watch: Watch, go_on: GoOn
) -> Log:
    """Send a request at each arrival, with any number in flight; wait for all answers.

    Args:
        target: the server.
        clips: the recordings, in order.
        arrivals: seconds after the start, ascending, shape (n,).
        watch: called for each finished request.
        go_on: called before each request; when it returns false, no more are sent.
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
    """Keep `in_flight` requests in flight; the next one is due when one is answered.

    Args:
        target: the server.
        clips: the recordings, in order; the run ends after the last.
        in_flight: number of requests in flight.
        watch: called for each finished request.
        go_on: called before each request; when it returns false, no more are sent.
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
