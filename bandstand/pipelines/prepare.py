"""Prepares encoded audio for models: decode, resample, cut windows, front end; each step once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol

import numpy as np

from bandstand.audio.decode import DecodeLimits, OutputFormat
from bandstand.audio.decoder_pool import Content, Decode, decode_here
from bandstand.audio.waveform import Waveform
from bandstand.audio.windows import Windows, cut_windows
from bandstand.errors import BandstandError
from bandstand.frontends.librosa_features import extract_features
from bandstand.models.card import Card, InputSpecification, Window
from bandstand.pipelines.prepared import STAGES, PreparedRecording, PreparedRows
from bandstand.runners.base import Array
from bandstand_client.contract.shared import AudioMetadata

Specifications = dict[str, InputSpecification]
"""By `InputSpecification.key`, so that each is prepared once."""


class Preparation(Protocol):
    """The interface of preparation, in this process or in another."""

    async def prepare(self, audio: bytes, cards: Iterable[Card]) -> PreparedRecording:
        """Prepare encoded `audio` for all `cards`; raises the errors of `prepare`."""
        ...


def prepare(
    audio: Content,
    cards: Iterable[Card | InputSpecification],
    limits: DecodeLimits,
    decode: Decode = decode_here,
) -> PreparedRecording:
    """Prepare one recording for any number of models.

    Decodes once, resamples once for each rate, cuts once for each window, and computes each host
    front end once for each window. The result is bit-identical to that of one call for each card.

    Args:
        audio: encoded content in any accepted format, or an open file of it.
        cards: the cards of the models, or their input specifications.
        limits: the limits of accepted recordings.
        decode: decodes in this process, or (`DecoderPool`) in another.

    Raises:
        BandstandError: the refusals of `decode_to`. The refusals of `cut_windows` apply to single
            cards: `PreparedRecording.of` raises them.
    """
    plan = _plan(specifications(cards))
    spent = dict.fromkeys(STAGES, 0.0)
    with _timed(spent, "decode"):
        decoded = decode(audio, limits, tuple(plan))
    recording = decoded.recording
    resampling = sum(recording.resample_ms)
    spent["decode"], spent["resample"] = max(0.0, spent["decode"] - resampling), resampling
    parts: dict[str, PreparedRows | BandstandError] = {}
    for (wanted, windows), milliseconds in zip(plan.items(), recording.resample_ms, strict=True):
        before = {"decode": spent["decode"], "resample": milliseconds}
        waveform = decoded.waveforms.pop(wanted)
        for window, specified in windows.items():
            parts.update(_parts(waveform, window, specified, before, spent))
    metadata = AudioMetadata(
        duration_seconds=round(recording.duration_seconds, 6),
        sha256=recording.sha256,
        sample_rate=recording.sample_rate,
        truncated=recording.truncated,
    )
    return PreparedRecording(metadata, parts, spent)


class LocalPreparation:
    """Prepares recordings in threads of this process, as is good enough for the user's own."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits

    async def prepare(self, audio: bytes, cards: Iterable[Card]) -> PreparedRecording:
        """See `prepare`."""
        return await asyncio.to_thread(prepare, audio, cards, self._limits)


def specifications(cards: Iterable[Card | InputSpecification]) -> Specifications:
    """Return the different input specifications of cards, in their order."""
    wanted = (card.input_specification if isinstance(card, Card) else card for card in cards)
    return {each.key: each for each in wanted}


def _plan(wanted: Specifications) -> dict[OutputFormat, dict[Window, Specifications]]:
    """Group specifications by channels and rate, and these by window."""
    plan: dict[OutputFormat, dict[Window, Specifications]] = {}
    for key, each in wanted.items():
        output = OutputFormat(each.window.channels, each.window.sample_rate)
        windows = plan.setdefault(output, {})
        windows.setdefault(each.window, {})[key] = each
    return plan


def _parts(
    waveform: Waveform,
    window: Window,
    wanted: Specifications,
    before: dict[str, float],
    spent: dict[str, float],
) -> dict[str, PreparedRows | BandstandError]:
    """Cut a waveform and compute the front ends; `before` and `spent` are milliseconds."""
    try:
        with _timed(spent, "cut") as cutting:
            windows = cut_windows(waveform, window)
    except BandstandError as refusal:
        return dict.fromkeys(wanted, refusal)
    durations = windows.coverage * np.float32(window.seconds)
    parts: dict[str, PreparedRows | BandstandError] = {}
    for key, each in wanted.items():
        front_end = HOST_FRONT_ENDS.get(each.front_end.kind, _samples)
        with _timed(spent, "front_end") as computing:
            rows = front_end(windows)
        timings = {**before, **cutting, **computing}
        parts[key] = PreparedRows(rows, windows.starts_seconds, durations, timings)
    return parts


def _window_features(windows: Windows) -> Array:
    """Return the features of each window without its padding, which would count as silence."""
    return np.stack(
        [
            extract_features(row[a:b])
            for row, (a, b) in zip(windows.batch, windows.spans, strict=True)
        ]
    )


def _samples(windows: Windows) -> Array:
    return windows.batch


HOST_FRONT_ENDS: dict[str, Callable[[Windows], Array]] = {"librosa_features": _window_features}
"""Front ends that are not in the graph, by kind; models with other front ends take samples."""


@contextmanager
def _timed(spent: dict[str, float], stage: str) -> Iterator[dict[str, float]]:
    """Add the milliseconds of the block to a stage of `spent`; yield a dict of this block alone."""
    alone: dict[str, float] = {}
    started = perf_counter()
    try:
        yield alone
    finally:
        alone[stage] = (perf_counter() - started) * 1e3
        spent[stage] += alone[stage]
