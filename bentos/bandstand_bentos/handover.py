"""Handover: passes a recording from the gateway to a worker on the same host in shared memory.

A socket would transfer the bytes in about twenty pieces, each handled by two event loops; that
costs half as much as all other work of the gateway. Instead the gateway writes them once to an
anonymous memory file and sends its process id, descriptor and name; the worker reads the file. The
file is in no file system: the kernel deletes it when its last descriptor is closed, also when a
process dies.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bandstand.errors import BandstandError

RECORDING = "recording"
# For smaller recordings the socket costs no more.
SMALLEST_BYTES = 64 * 1024
_NAME = "bandstand-recording-"


class HandoverError(BandstandError):
    """The worker cannot read the gateway's memory: another host, container or user."""

    status = 503
    error_type = "handover_failed"


def can_hand_over(worker_url: str | None) -> bool:
    """Return whether the worker is on this host, and this host has `memfd_create`."""
    return (worker_url or "").startswith("file:") and hasattr(os, "memfd_create")


@contextmanager
def handed_over(content: bytes) -> Iterator[dict[str, Any]]:
    """Keep `content` in shared memory for the block; yield the metadata to read it with."""
    name = f"{_NAME}{uuid.uuid4().hex}"
    with os.fdopen(os.memfd_create(name), "wb", buffering=0) as file:
        written = 0
        while written < len(content):
            written += file.write(memoryview(content)[written:])
        yield {RECORDING: {"process": os.getpid(), "descriptor": file.fileno(), "name": name}}


@contextmanager
def take_over(metadata: Mapping[str, Any]) -> Iterator[IO[bytes]]:
    """Yield the file that another process keeps with `handed_over`, open for reading.

    Raises:
        HandoverError: this process cannot read it, or the descriptor is now another file.
    """
    place = metadata[RECORDING]
    path = Path("/proc") / str(int(place["process"])) / "fd" / str(int(place["descriptor"]))
    name = str(place["name"])
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise HandoverError(f"{path} cannot be read: {error}") from error
    with file:
        # Checked on our descriptor: the gateway may have closed its own and reused the number.
        held = str(Path(f"/proc/self/fd/{file.fileno()}").readlink())
        if not name.startswith(_NAME) or held != f"/memfd:{name} (deleted)":
            raise HandoverError(f"{path} is not the recording {name}")
        yield file
