"""The kind of a checkpoint file, by its content, not by its suffix."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from bandstand.errors import CheckpointError

FileKind = Literal["keras", "torch", "safetensors"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_OLD_TORCH = b"\x80\x02"
"""A pickle of protocol 2, as torch wrote before 1.6."""
_LENGTH_BYTES = 8
"""A safetensors file begins with the length of the JSON object that follows."""


def kind_of(path: Path) -> FileKind | None:
    """Return the kind of a file by its content; None: unknown or not readable.

    Raises:
        CheckpointError: it starts like a known kind, but is truncated.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_LENGTH_BYTES + 1)
        if head.startswith(_HDF5):
            return "keras"
        if head.startswith(_ZIP):
            return _kind_of_archive(path)
        length = int.from_bytes(head[:_LENGTH_BYTES], "little")
        if head[_LENGTH_BYTES:] == b"{" and length < path.stat().st_size:
            return "safetensors"
    except OSError:
        return None
    return "torch" if head.startswith(_OLD_TORCH) else None


def _kind_of_archive(path: Path) -> FileKind | None:
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path.name} is cut off: the end of its zip archive is missing")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "config.json" in names:
        return "keras"
    return "torch" if any(name.endswith("/data.pkl") for name in names) else None
