"""What the arguments of a command stand for: files, the audio in directories, URLs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".webm", ".aif", ".aiff"}
)
"""What is taken for audio in a directory; a file that is named itself may be called anything."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording to work on: a file, or a URL.

    Attributes:
        name: as the output calls it: the path or URL as given.
        path: None for a URL.
    """

    name: str
    path: Path | None

    @property
    def label(self) -> str:
        """A short name for tables: the last part."""
        return self.path.name if self.path else self.name


class NoSuchInputError(Exception):
    """An argument stands for nothing; the message says which."""


def find_recordings(arguments: Iterable[str]) -> list[Recording]:
    """Return what the arguments stand for, in their order, each recording once.

    Raises:
        NoSuchInputError: a file that is not there, or a directory without audio.
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
            # "._song.mp3" is what macOS leaves beside a song, and no audio.
            if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith("._"):
                yield Path(parent, name)
