"""Decodes recordings of strangers in processes of their own, with bounded memory and time.

A decoder process has nothing that could be stolen (no settings, no keys), and content that takes it
down is refused without harm to others. Content and samples are passed as files in shared memory.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from mmap import ACCESS_READ, mmap
from typing import IO, Protocol

import numpy as np

from bandstand.audio.decode import (
    Decoded,
    DecodeLimits,
    OutputFormat,
    Recording,
    decode_formats,
    waveform_of,
)
from bandstand.audio.decoder import Decoder, DecoderDiedError, Job
from bandstand.audio.mixdown import SIDES
from bandstand.audio.waveform import FloatArray
from bandstand.errors import NotAudioError

_TRIES = 2

Content = bytes | IO[bytes]
"""Encoded content, or an open file of it."""


class Decode(Protocol):
    """Decodes a recording, here or in another process; raises as `decode_to`."""

    def __call__(
        self, content: Content, limits: DecodeLimits, wanted: Collection[OutputFormat]
    ) -> Decoded:
        """Return the recording in all wanted formats."""
        ...


def decode_here(
    content: Content, limits: DecodeLimits, wanted: Collection[OutputFormat]
) -> Decoded:
    """Decode a recording in this process, as is good enough for the user's own files."""
    data = content if isinstance(content, bytes) else content.read()
    return decode_formats(data, limits, wanted)


class DecoderPool:
    """Decoder processes, each for one recording at a time; they start when they are needed.

    Threads can share a pool. The processes end when this process ends, however it ends.
    """

    def __init__(self) -> None:
        self._idle: list[Decoder] = []
        self._lock = threading.Lock()

    def start(self, count: int) -> None:
        """Start processes, at the same time, so that the first recordings do not wait for them."""
        with ThreadPoolExecutor(count) as threads:
            started = list(threads.map(lambda _: Decoder(), range(count)))
        with self._lock:
            self._idle += started

    def close(self) -> None:
        """End the idle processes."""
        with self._lock:
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.end()

    def decode(
        self, content: Content, limits: DecodeLimits, wanted: Collection[OutputFormat]
    ) -> Decoded:
        """Decode one recording; its samples are in shared memory until they are not used.

        Args:
            content: encoded content, or an open file of it.
            limits: the limits of accepted recordings.
            wanted: formats, with a sample rate each.

        Raises:
            BandstandError: as `decode_to`; `UndecodableAudioError` also for content that needs too
                much memory, and `NotAudioError` for content that ends the process twice.
        """
        with ExitStack() as files:
            source = files.enter_context(_memory_file()) if isinstance(content, bytes) else content
            if isinstance(content, bytes):
                source.write(content)
            for _ in range(_TRIES):
                stores = [
                    [files.enter_context(_memory_file()) for _ in SIDES[each.channels]]
                    for each in wanted
                ]
                job = Job(source, limits, tuple(wanted), tuple(stores))
                try:
                    recording = self._run(job)
                except DecoderDiedError:
                    continue  # it may have been killed for another reason than this content
                return _decoded(recording, job)
        raise NotAudioError("no part of the content could be decoded: the decoder failed")

    def _idle_decoder(self) -> Decoder | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                decoder = self._idle.pop()
            if decoder.is_running:
                return decoder
            decoder.end()

    def _run(self, job: Job) -> Recording:
        decoder = self._idle_decoder() or Decoder()
        try:
            return decoder.run(job)
        finally:
            if decoder.usable:
                with self._lock:
                    self._idle.append(decoder)
            else:
                decoder.end()


def _decoded(recording: Recording, job: Job) -> Decoded:
    waveforms = {
        each: waveform_of(recording, each, [_samples(file) for file in files])
        for each, files in zip(job.wanted, job.stores, strict=True)
    }
    return Decoded(recording, waveforms)


def _samples(file: IO[bytes]) -> FloatArray:
    """Return the content of a file as read-only samples, shape (n,), without a copy."""
    size = os.fstat(file.fileno()).st_size
    if not size:
        return np.empty(0, np.float32)
    return np.frombuffer(mmap(file.fileno(), size, access=ACCESS_READ), np.float32)


def _memory_file() -> IO[bytes]:
    """Return a file in memory; where the system has none, one without a name on disk."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("bandstand-decoder"), "r+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)
