"""Prepared recordings: the inputs of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bandstand.errors import BandstandError
from bandstand.models.card import Card
from bandstand.runners.base import Array, FloatArray
from bandstand_client.contract.shared import AudioMetadata

STAGES = ("decode", "resample", "cut", "front_end")
"""The timed steps in their order; they are the keys of `timings_ms`."""


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """A recording prepared for one input specification.

    Attributes:
        rows: shape (n, *input), one row for each window.
        starts_seconds: shape (n,), the start of each window, or the onset that it is cut at.
        durations_seconds: shape (n,), length of each window without padding; its weight in means.
        timings_ms: the time of each stage for these rows alone.
    """

    rows: Array
    starts_seconds: FloatArray
    durations_seconds: FloatArray
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recording prepared for one model.

    Attributes:
        inputs: an array for each model input, one row for each window.
        starts_seconds: shape (n,), the start of each window, or the onset that it is cut at.
        durations_seconds: shape (n,), length of each window without padding; its weight in means.
        audio: metadata of the recording.
        timings_ms: the time of each stage for this model alone.
    """

    inputs: dict[str, Array]
    starts_seconds: FloatArray
    durations_seconds: FloatArray
    audio: AudioMetadata
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class PreparedRecording:
    """A recording prepared for several models; equal arrays are the same object.

    Attributes:
        audio: metadata of the recording.
        parts: the rows of each specification, by `InputSpecification.key`, or the error of
            `cut_windows`.
        timings_ms: the time of each stage, for all models together.
    """

    audio: AudioMetadata
    parts: Mapping[str, PreparedRows | BandstandError]
    timings_ms: dict[str, float]

    def of(self, card: Card) -> Prepared:
        """Return the recording prepared for one model.

        Raises:
            BandstandError: `cut_windows` refused the recording for this model.
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
