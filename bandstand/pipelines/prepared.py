"""A recording as models take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bandstand.errors import BandstandError
from bandstand.models.card import Card
from bandstand.runners.base import Array, FloatArray
from bandstand_client.contract.shared import AudioMetadata

STAGES = ("decode", "resample", "cut", "front_end")
"""The steps that are timed, in their order: all keys of `timings_ms`."""


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """What one window and front end make of a recording.

    Attributes:
        rows: shape (n, *input), a row a window.
        starts_seconds: shape (n,), where each window begins, or the onset that it is cut at.
        durations_seconds: shape (n,), how much real audio each window holds; its vote's weight.
        timings_ms: how long each stage takes for these alone.
    """

    rows: Array
    starts_seconds: FloatArray
    durations_seconds: FloatArray
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recording as one model takes it.

    Attributes:
        inputs: an array per model input, one row a window.
        starts_seconds: shape (n,), where each window begins, or the onset that it is cut at.
        durations_seconds: shape (n,), how much real audio each window holds; its vote's weight.
        audio: metadata of the recording.
        timings_ms: how long each stage takes for this model alone.
    """

    inputs: dict[str, Array]
    starts_seconds: FloatArray
    durations_seconds: FloatArray
    audio: AudioMetadata
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class PreparedRecording:
    """A recording as each of several models takes it. What is equal is one array.

    Attributes:
        audio: metadata of the recording.
        parts: what each specification asked for, by `InputSpecification.key`, or why it cannot be
            had of this recording.
        timings_ms: how long each stage took, for all models together.
    """

    audio: AudioMetadata
    parts: Mapping[str, PreparedRows | BandstandError]
    timings_ms: dict[str, float]

    def of(self, card: Card) -> Prepared:
        """Return what a model takes.

        Raises:
            BandstandError: the recording is nothing for this model; `cut_windows` says why.
            KeyError: the recording was not prepared for this card.
        """
        part = self.parts[card.input_specification.key]
        if isinstance(part, BandstandError):
            raise part
        return Prepared(
            inputs={card.inputs[0].name: part.rows},
            starts_seconds=part.starts_seconds,
            durations_seconds=part.durations_seconds,
            audio=self.audio,
            timings_ms=part.timings_ms,
        )
