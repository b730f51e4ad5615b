"""From encoded audio to what a card's model takes: decode, resample, cut windows, front end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.audio.waveform import Windows, cut_windows, resample
from bandstand.frontends.librosa_features import extract_features
from bandstand.models.card import Card, InputFacts
from bandstand.runners.base import Array, FloatArray
from bandstand_client.contract.shared import AudioMetadata


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recording as one model takes it.

    Attributes:
        inputs: an array per model input, one row a window.
        starts_seconds: shape (n,), where each window begins.
        durations_seconds: shape (n,), how much real audio each window holds; its vote's weight.
        audio: metadata of the recording.
        timings_ms: where the time went.
    """

    inputs: dict[str, Array]
    starts_seconds: FloatArray
    durations_seconds: FloatArray
    audio: AudioMetadata
    timings_ms: dict[str, float]


class Preparation(Protocol):
    """Prepares recordings: in this process, or in another."""

    async def prepare(self, audio: bytes, card: Card) -> Prepared:
        """Prepare encoded `audio` for `card`; refuses with the typed errors of `decode`."""
        ...


def _window_features(windows: Windows, durations: FloatArray, sample_rate: int) -> Array:
    """Features of each window's real audio: padding would count as silence in every mean."""
    lengths = np.rint(durations * sample_rate).astype(int)
    return np.stack(
        [extract_features(row[:n]) for row, n in zip(windows.batch, lengths, strict=True)]
    )


def _waveform_rows(windows: Windows, _durations: FloatArray, _sample_rate: int) -> Array:
    return windows.batch


# Front ends that run on the host before the graph; every other card takes samples.
_HOST_FRONT_ENDS: dict[str, Callable[[Windows, FloatArray, int], Array]] = {
    "librosa_features": _window_features
}


def prepare(audio: bytes, card: Card | InputFacts, limits: DecodeLimits) -> Prepared:
    """Prepare one recording for one card.

    Args:
        audio: encoded content in any accepted format.
        card: the model it is for, or what of its card counts here.
        limits: what is accepted.

    Raises:
        BandstandError: the refusals of `decode` and `cut_windows`.
    """
    clock = [perf_counter()]
    decoded = decode(audio, limits)
    clock.append(perf_counter())
    waveform = resample(decoded, card.window.sample_rate)
    windows = cut_windows(waveform, card.window)
    clock.append(perf_counter())
    durations = windows.coverage * np.float32(card.window.seconds)
    rows = _HOST_FRONT_ENDS.get(card.front_end.kind, _waveform_rows)
    inputs = {card.inputs[0].name: rows(windows, durations, card.window.sample_rate)}
    clock.append(perf_counter())
    stages = ("decode", "resample", "front_end")
    return Prepared(
        inputs=inputs,
        starts_seconds=np.arange(len(durations), dtype=np.float32) * card.window.hop_seconds,
        durations_seconds=durations,
        audio=AudioMetadata(
            duration_seconds=round(decoded.duration_seconds, 6),
            sha256=decoded.sha256,
            sample_rate=decoded.sample_rate,
            truncated=decoded.truncated,
        ),
        timings_ms={stage: (clock[i + 1] - clock[i]) * 1e3 for i, stage in enumerate(stages)},
    )


class LocalPreparation:
    """Prepares recordings on this process's threads."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits

    async def prepare(self, audio: bytes, card: Card) -> Prepared:
        """See `prepare`."""
        return await asyncio.to_thread(prepare, audio, card, self._limits)
