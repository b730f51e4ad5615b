"""Prepares recordings of strangers: nothing that is sent takes a process that serves others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

from bandstand.audio.decode import DecodeLimits
from bandstand.audio.decoder_pool import Content, DecoderPool
from bandstand.audio.probe import probe_recording
from bandstand.errors import AudioTooLongError
from bandstand.fair_shares import FairShares, Groups
from bandstand.models.card import Card, InputSpecification
from bandstand.pipelines.prepare import prepare, specifications
from bandstand.pipelines.prepared import PreparedRecording

LONG_BYTES = 32 * 1024 * 1024
"""A recording with more samples than this is a long one: six minutes for one model at 22.05 kHz."""

Check = Callable[[], Awaitable[None]]


async def _no_check() -> None:
    pass


class GuardedPreparation:
    """Prepares recordings in threads, and decodes them in processes of their own.

    Only one long recording is prepared at a time, so that the memory is bounded, and others that
    come meanwhile have a thread. Whether a recording is long, its header says, or its decoding.

    Args:
        limits: the limits of accepted recordings.
        threads: recordings at a time.
    """

    def __init__(self, limits: DecodeLimits, threads: int) -> None:
        self._limits = limits
        self._threads = threads
        self._decoders = DecoderPool()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
        self._turns = FairShares(threads, {})
        self._long = FairShares(1, {})

    @property
    def running(self) -> int:
        """How many threads are at work."""
        return self._turns.held

    def close(self) -> None:
        """Wait until the threads have finished, and end the decoder processes."""
        self._executor.shutdown()
        self._decoders.close()

    def warm_up(self, card: Card) -> None:
        """Prepare one window of a tone: start decoders and load libraries before a request does.

        A window of full length, because glibc's allocator keeps freed memory in the process only up
        to the largest size that it saw freed. After one short recording, each request with features
        had 1,200 page faults (3 ms of CPU) until a longer recording came.
        """
        self._decoders.start(self._threads)
        prepare(probe_recording(card.window.seconds), (card,), self._limits, self._decoders.decode)

    async def prepare(
        self,
        audio: Content,
        cards: Iterable[Card | InputSpecification],
        check: Check = _no_check,
        client: str = "",
    ) -> PreparedRecording:
        """Prepare one recording; see `bandstand.pipelines.prepare.prepare`.

        Args:
            audio: encoded content, or an open file of it.
            cards: the cards of the models, or their input specifications.
            check: called when a thread is free; what it raises ends the preparation.
            client: whose recording it is; clients have their turns in a circle.
        """
        groups = (("client", client),)
        wanted = list(specifications(cards).values())
        short = replace(self._limits, max_seconds=_short_seconds(wanted, self._limits))
        try:
            return await self._prepare(audio, wanted, short, check, groups)
        except AudioTooLongError:
            if short == self._limits:
                raise
        await self._long.take(1, groups)
        return await self._prepare(audio, wanted, self._limits, check, groups, self._long)

    async def _prepare(
        self,
        audio: Content,
        wanted: list[InputSpecification],
        limits: DecodeLimits,
        check: Check,
        groups: Groups,
        *held: FairShares,
    ) -> PreparedRecording:
        """Prepare in a thread, in turn; then give back the turn, and one of each that is held."""
        with ExitStack() as stack:
            for one in held:
                stack.callback(one.give_back, 1, groups)
            await self._turns.take(1, groups)
            stack.callback(self._turns.give_back, 1, groups)
            await check()
            running = asyncio.get_running_loop().run_in_executor(
                self._executor, prepare, audio, wanted, limits, self._decoders.decode
            )
            # A thread goes on when the request is cancelled, and has its turn until it ends.
            ended = stack.pop_all()

            def give_back(thread: asyncio.Future[PreparedRecording]) -> None:
                ended.close()
                thread.exception()  # nobody else asks for it when the request was cancelled

            running.add_done_callback(give_back)
            try:
                return await asyncio.shield(running)
            finally:
                del running  # an error and its future would keep each other, and the content


def _short_seconds(wanted: Iterable[InputSpecification], limits: DecodeLimits) -> float:
    """Return the length above which a recording is a long one for these models."""
    forms = {(each.window.channels, each.window.sample_rate) for each in wanted}
    bytes_a_second = sum(4 * channels * rate for channels, rate in forms) or 1
    return min(LONG_BYTES / bytes_a_second, limits.max_seconds)
