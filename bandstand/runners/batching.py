"""Micro-batching: computes the rows of several callers in one call of the model."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, field

import numpy as np

from bandstand.errors import (
    ModelMismatchError,
    NonFiniteOutputError,
    UnavailableError,
    UnusableRequestError,
)
from bandstand.runners.base import Array
from bandstand.runners.checks import finite_rows

Batch = dict[str, Array]
Run = Callable[[Batch], Batch]
ClientWaits = Callable[[], Awaitable[bool]]

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Entry:
    """One submission, or one piece of a large one, with the future of its outputs."""

    inputs: Batch
    rows: int
    client_waits: ClientWaits | None
    answer: asyncio.Future[Batch]
    since: float = field(default_factory=time.monotonic)

    def fits(self, other: _Entry) -> bool:
        """Return whether both can be stacked into one batch."""
        return self.inputs.keys() == other.inputs.keys() and all(
            a.dtype == other.inputs[name].dtype and a.shape[1:] == other.inputs[name].shape[1:]
            for name, a in self.inputs.items()
        )

    def set_outcome(self, outcome: Batch | BaseException) -> None:
        """Set the outputs or the error, unless the submitter was cancelled."""
        if self.answer.done():
            return
        if isinstance(outcome, BaseException):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class MicroBatcher:
    """Stacks the rows that arrive while the model is busy, in order of arrival.

    The model is called in its own thread, one call at a time. An idle model is called immediately
    (or after `max_delay_ms`), so a single request does not wait. Use it in one event loop only.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_size: int,
        max_delay_ms: float = 0.0,
        on_batch: Callable[[int, float, float], None] | None = None,
    ) -> None:
        """Wrap a model; the thread and the task start with the first submission.

        Args:
            run: computes the outputs of a batch, one row for each row; called in the worker thread.
            max_size: most rows in one call.
            max_delay_ms: how long the oldest row may wait for others while the model is idle.
            on_batch: called after each batch with its rows, its seconds, and how many seconds its
                oldest row had waited.
        """
        self._run = run
        self._max_size = max_size
        self._max_delay = max_delay_ms / 1000
        self._on_batch = on_batch
        self._queue: deque[_Entry] = deque()
        self._arrival = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="micro-batch")
        self._dispatcher: asyncio.Task[None] | None = None
        self._closing = False

    async def submit(self, inputs: Batch, client_waits: ClientWaits | None = None) -> Batch:
        """Return the outputs for one or more rows.

        If the submitter is cancelled, or `client_waits` returns False, before its rows are
        computed, they are not computed.

        Args:
            inputs: an array for each input, rows first.
            client_waits: called just before the rows are computed.

        Raises:
            UnusableRequestError: there are no rows, or the inputs have different numbers of rows.
            NonFiniteOutputError: the model computed NaN or infinity for one of these rows.
            UnavailableError: the batcher is closed, or the client disconnected.
            BandstandError: the error of the model for these rows alone.
        """
        if self._closing:
            raise UnavailableError("this model is being unloaded")
        counts = {len(array) if array.ndim else 0 for array in inputs.values()}
        if len(counts) != 1 or 0 in counts:
            raise UnusableRequestError(
                f"a batch has at least one row, and as many for each input; got {sorted(counts)}"
            )
        (rows,) = counts
        answers = [
            self._enqueue(
                {name: a[start : start + self._max_size] for name, a in inputs.items()},
                min(self._max_size, rows - start),
                client_waits,
            )
            for start in range(0, rows, self._max_size)
        ]
        try:
            pieces = await asyncio.gather(*answers)
        finally:
            for answer in answers:  # after one piece has failed, the others are not computed
                answer.cancel()
        return pieces[0] if len(pieces) == 1 else _stack(pieces)

    async def aclose(self, *, drain: bool = True) -> None:
        """Refuse new rows, compute the queued ones (or refuse them, `drain=False`), and stop."""
        self._closing = True
        if not drain:
            for entry in self._queue:
                entry.set_outcome(UnavailableError("this model is being unloaded"))
            self._queue.clear()
        self._arrival.set()
        if self._dispatcher is not None:
            await self._dispatcher
        self._worker.shutdown(wait=False)  # it is idle

    def _enqueue(
        self, inputs: Batch, rows: int, client_waits: ClientWaits | None
    ) -> asyncio.Future[Batch]:
        loop = asyncio.get_running_loop()
        entry = _Entry(inputs, rows, client_waits, loop.create_future())
        self._queue.append(entry)
        self._arrival.set()
        if self._dispatcher is None:
            self._dispatcher = loop.create_task(
                self._dispatch(),
                name="micro-batch",
                context=Context(),  # not the first request's, whose id would appear in all logs
            )
        return entry.answer

    async def _dispatch(self) -> None:
        while True:
            while not self._queue:
                if self._closing:
                    return
                self._arrival.clear()
                await self._arrival.wait()
            await self._wait_for_more_rows()
            batch = await self._take()
            try:
                await self._compute(batch)
            except Exception as error:  # the dispatcher must continue after a bug
                logger.exception("micro-batch")
                for entry in batch:
                    entry.set_outcome(error)

    async def _wait_for_more_rows(self) -> None:
        """Wait for a full batch, at most until the oldest row has waited `max_delay_ms`."""
        while self._queue and not self._closing:
            left = self._queue[0].since + self._max_delay - time.monotonic()
            if left <= 0 or sum(entry.rows for entry in self._queue) >= self._max_size:
                return
            self._arrival.clear()
            try:
                await asyncio.wait_for(self._arrival.wait(), left)
            except TimeoutError:
                return

    async def _take(self) -> list[_Entry]:
        """Take the next batch from the queue, in order of arrival, without cancelled entries."""
        batch: list[_Entry] = []
        room = self._max_size
        while self._queue and self._queue[0].rows <= room:
            if batch and not batch[0].fits(self._queue[0]):
                break
            entry = self._queue.popleft()
            if await _is_needed(entry):
                batch.append(entry)
                room -= entry.rows
        return batch

    async def _compute(self, batch: Sequence[_Entry]) -> None:
        batch = [entry for entry in batch if not entry.answer.done()]
        if not batch:
            return
        loop = asyncio.get_running_loop()
        started = time.monotonic()
        try:
            outcomes = await loop.run_in_executor(self._worker, _call, self._run, batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].set_outcome(error)
            else:  # one of them caused the error: compute each alone
                for entry in batch:
                    await self._compute([entry])
            return
        for entry, outcome in zip(batch, outcomes, strict=True):
            entry.set_outcome(outcome)
        if self._on_batch is not None:
            rows = sum(entry.rows for entry in batch)
            self._on_batch(rows, time.monotonic() - started, started - batch[0].since)


async def _is_needed(entry: _Entry) -> bool:
    if entry.answer.done():
        return False
    if entry.client_waits is None:
        return True
    try:
        if not await entry.client_waits():
            entry.set_outcome(UnavailableError("not computed: the client disconnected"))
    except Exception as error:  # only this entry fails
        entry.set_outcome(error)
    return not entry.answer.done()


def _call(run: Run, batch: Sequence[_Entry]) -> list[Batch | BaseException]:
    """Compute a batch in the worker thread; return the outputs or the error of each entry."""
    rows = sum(entry.rows for entry in batch)
    outputs = run(_stack([entry.inputs for entry in batch]))
    if any(len(array) != rows for array in outputs.values()):
        shapes = {name: array.shape for name, array in outputs.items()}
        raise ModelMismatchError(f"the model computed outputs of shapes {shapes} for {rows} rows")
    finite = finite_rows(outputs)
    outcomes: list[Batch | BaseException] = []
    end = 0
    for entry in batch:
        start, end = end, end + entry.rows
        if not finite[start:end].all():
            outcomes.append(NonFiniteOutputError("the model computed NaN or infinity"))
        elif len(batch) == 1:
            outcomes.append(outputs)
        else:  # copied: a view would keep the whole batch in memory
            outcomes.append({name: array[start:end].copy() for name, array in outputs.items()})
    return outcomes


def _stack(pieces: Sequence[Batch]) -> Batch:
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
