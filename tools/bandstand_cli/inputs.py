"""The inputs of a command: files, the audio files in directories, URLs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".webm", ".aif", ".aiff"}
)
"""Suffixes of audio files in directories; a file given by name can have any suffix."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One input recording: a file or a URL.

    Attributes:
        name: in the output: the path or URL as given.
        path: None for a URL.
    """

    name: str
    path: Path | None

    @property
    def label(self) -> str:
        """A short name for tables: the last part."""
        return self.path.name if self.path else self.name


class NoSuchInputError(Exception):
    """An argument has no recordings; the message names it."""


def find_recordings(arguments: Iterable[str]) -> list[Recording]:
    """Return the recordings of the arguments, in their order, each once.

    Raises:
        NoSuchInputError: a file that does not exist, or a directory without audio.
    """
    found = (recording for argument in arguments for recording in _expand(argument))
    return list(dict.fromkeys(found))


def _expand(argument: str) -> list[Recording]:
    if argument.startswith(("http://", "https://")):
        return [Recording(argument, None)]
    path = Path(argument)
    if path.is_dir():
        inside = [Recording(str(file), file) for file in sorted(_audio_below(path))]
        if not inside:
            known = " ".join(sorted(suffix[1:] for suffix in AUDIO_SUFFIXES))
            raise NoSuchInputError(f"no audio in the directory {argument} (looked for: {known})")
        return inside
    if not path.exists():
        raise NoSuchInputError(f"there is no file {argument}")
    return [Recording(argument, path)]


def _audio_below(directory: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(directory):
        for name in names:
            # macOS writes "._song.mp3" beside a file; it is not audio.
            if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith("._"):
                yield Path(parent, name)
