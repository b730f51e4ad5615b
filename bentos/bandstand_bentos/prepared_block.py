"""A prepared recording as a block between preprocessor and gateway; equal arrays are sent once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from bandstand.errors import BandstandError
from bandstand.models.card import InputSpecification
from bandstand.pipelines.prepared import PreparedRecording, PreparedRows
from bandstand.runners.base import Array
from bandstand_bentos.worker import Arrays, Metadata
from bandstand_client.contract.shared import AudioMetadata

_ARRAYS = ("rows", "starts_seconds", "durations_seconds")


def to_block(recording: PreparedRecording, wanted: Sequence[str]) -> tuple[Arrays, Metadata]:
    """Return arrays and metadata of a block.

    Args:
        recording: the prepared recording.
        wanted: keys of its parts, in the order of the request.
    """
    arrays: Arrays = {}
    names: dict[int, str] = {}

    def name_of(array: Array) -> str:
        # By identity: parts with equal windows have the same array, and comparing bytes costs time.
        name = names.setdefault(id(array), f"array_{len(names)}")
        arrays[name] = array
        return name

    parts: list[Metadata] = []
    for key in wanted:
        part = recording.parts[key]
        if isinstance(part, BandstandError):
            parts.append({"error": part.to_fields()})
        else:
            named = {field: name_of(getattr(part, field)) for field in _ARRAYS}
            parts.append({**named, "timings_ms": part.timings_ms})
    audio, timings_ms = asdict(recording.audio), recording.timings_ms
    return arrays, {"audio": audio, "timings_ms": timings_ms, "parts": parts}


def from_block(
    arrays: Arrays, metadata: Metadata, wanted: Sequence[InputSpecification]
) -> PreparedRecording:
    """Return the prepared recording of a block; the reverse of `to_block`.

    Args:
        arrays: of the block.
        metadata: of the block.
        wanted: the specifications of the request, in its order.
    """
    parts: dict[str, PreparedRows | BandstandError] = {}
    for specification, part in zip(wanted, metadata["parts"], strict=True):
        if "error" in part:
            parts[specification.key] = BandstandError.from_fields(part["error"])
        else:
            named = {field: arrays[part[field]] for field in _ARRAYS}
            parts[specification.key] = PreparedRows(**named, timings_ms=part["timings_ms"])
    return PreparedRecording(AudioMetadata(**metadata["audio"]), parts, metadata["timings_ms"])
