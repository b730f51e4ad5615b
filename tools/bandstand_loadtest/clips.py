"""The recordings of a load test, each with its reference answer, in a seeded order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bandstand.errors import BandstandError, UnusableRequestError
from bandstand.settings import Settings

if TYPE_CHECKING:
    from bandstand.local import LocalBandstand

_OF_THE_MODEL = frozenset({"model_not_found", "model_not_installed", "model_mismatch", "bad_card"})


@dataclass(frozen=True, slots=True)
class Reference:
    """The model's answer in process, in f32 on ONNX Runtime.

    Attributes:
        primary: the label with the highest score.
        scores: every label's score, 0 to 1.
        seconds: length of the recording.
        version: of the model.
    """

    primary: str
    scores: dict[str, float]
    seconds: float
    version: int | None


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording to send."""

    name: str
    content: bytes = field(repr=False)
    reference: Reference = field(repr=False)

    @property
    def format(self) -> str:
        """The suffix of its name."""
        return Path(self.name).suffix.removeprefix(".").lower() or "none"


@dataclass(frozen=True, slots=True)
class ClipStatistics:
    """Statistics of the recordings of a test: number, lengths in seconds, formats."""

    count: int
    shortest_seconds: float
    longest_seconds: float
    total_seconds: float
    formats: dict[str, int]

    @classmethod
    def of(cls, clips: Sequence[Clip]) -> ClipStatistics:
        """Compute the statistics."""
        seconds = [clip.reference.seconds for clip in clips]
        formats = sorted(clip.format for clip in clips)
        return cls(
            count=len(clips),
            shortest_seconds=min(seconds),
            longest_seconds=max(seconds),
            total_seconds=sum(seconds),
            formats={name: formats.count(name) for name in dict.fromkeys(formats)},
        )


async def load_clips(
    files: Sequence[Path],
    model: str | None,
    settings: Settings,
    on_clip: Callable[[], None] = lambda: None,
) -> list[Clip]:
    """Read recordings and compute their reference answers.

    Args:
        files: audio in any accepted format.
        model: its name; None: the default model.
        settings: of this process; runtime and precision are not used.
        on_clip: called after each recording.

    Raises:
        UnusableRequestError: the model cannot classify a recording; the message names it.
        BandstandError: the model cannot be used here.
        OSError: a file that cannot be read.
    """
    from bandstand.local import LocalBandstand

    exact = settings.model_copy(update={"runtime": "onnxruntime", "precision": "f32"})
    known: dict[str, Reference] = {}
    clips = []
    async with LocalBandstand(exact) as here:
        for file in files:
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            if digest not in known:
                known[digest] = await _reference(here, file, content, model)
            clips.append(Clip(str(file), content, known[digest]))
            on_clip()
    return clips


async def _reference(
    here: LocalBandstand, file: Path, content: bytes, model: str | None
) -> Reference:
    try:
        answer = await here.classify(content, model_name=model)
    except BandstandError as error:
        if error.error_type in _OF_THE_MODEL:
            raise
        raise UnusableRequestError(f"{file}: {error.message}") from error
    return Reference(
        primary=answer.primary_genre,
        scores=answer.all_scores,
        seconds=answer.audio.duration_seconds,
        version=answer.members[0].version,
    )


def shuffled(clips: Sequence[Clip], seed: int) -> Iterator[Clip]:
    """Yield the clips without end, in passes over all of them, each in another seeded order."""
    random = np.random.default_rng(seed)
    while True:
        for index in random.permutation(len(clips)):
            yield clips[index]
