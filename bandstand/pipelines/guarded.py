"""Prepares recordings of strangers: nothing that is sent takes a process that serves others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from bandstand.audio.decode import DecodeLimits
from bandstand.audio.decoder_pool import Content, DecoderPool
from bandstand.audio.probe import probe_recording
from bandstand.errors import AudioTooLongError
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
        self._decoders = DecoderPool()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
        self._turn = asyncio.Semaphore(threads)
        self._long = asyncio.Lock()

    def warm_up(self, card: Card) -> None:
        """Prepare one window of a tone: start a decoder and load libraries before a request does.

        A window of full length, because glibc's allocator keeps freed memory in the process only up
        to the largest size that it saw freed. After one short recording, each request with features
        had 1,200 page faults (3 ms of CPU) until a longer recording came.
        """
        prepare(probe_recording(card.window.seconds), (card,), self._limits, self._decoders.decode)

    async def prepare(
        self,
        audio: Content,
        cards: Iterable[Card | InputSpecification],
        check: Check = _no_check,
    ) -> PreparedRecording:
        """Prepare one recording; see `bandstand.pipelines.prepare.prepare`.

        Args:
            audio: encoded content, or an open file of it.
            cards: the cards of the models, or their input specifications.
            check: called when a thread is free; what it raises ends the preparation.
        """
        wanted = list(specifications(cards).values())
        short = replace(self._limits, max_seconds=_short_seconds(wanted, self._limits))
        try:
            return await self._prepare(audio, wanted, short, check)
        except AudioTooLongError:
            if short == self._limits:
                raise
        async with self._long:
            return await self._prepare(audio, wanted, self._limits, check)

    async def _prepare(
        self,
        audio: Content,
        wanted: list[InputSpecification],
        limits: DecodeLimits,
        check: Check,
    ) -> PreparedRecording:
        async with self._turn:
            await check()
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, prepare, audio, wanted, limits, self._decoders.decode
            )


def _short_seconds(wanted: Iterable[InputSpecification], limits: DecodeLimits) -> float:
    """Return the length above which a recording is a long one for these models."""
    forms = {(each.window.channels, each.window.sample_rate) for each in wanted}
    bytes_a_second = sum(4 * channels * rate for channels, rate in forms) or 1
    return min(LONG_BYTES / bytes_a_second, limits.max_seconds)
