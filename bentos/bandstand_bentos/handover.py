"""How a recording gets from the gateway to a worker on the same host: in shared memory.

Through the socket its bytes would go in twenty pieces, each handled by two event loops; that costs
half as much as everything else that the gateway does. Instead the gateway writes them once into an
anonymous memory file and sends what it is called; the worker reads it there. The file has no name
in any file system and is gone with its last descriptor, whatever happens to either process.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bandstand.errors import BandstandError

RECORDING = "recording"
# Below this the socket is as cheap.
SMALLEST_BYTES = 64 * 1024
_NAME = "bandstand-recording-"


class HandoverError(BandstandError):
    """The worker cannot see the gateway's memory: another host, container or user."""

    status = 503
    error_type = "handover_failed"


def can_hand_over(worker_url: str | None) -> bool:
    """Say whether a worker at this address is on this host, and this host has such memory."""
    return (worker_url or "").startswith("file:") and hasattr(os, "memfd_create")


@contextmanager
def handed_over(content: bytes) -> Iterator[dict[str, Any]]:
    """Hold `content` in shared memory for the block; yield what a worker needs to read it."""
    name = f"{_NAME}{uuid.uuid4().hex}"
    with os.fdopen(os.memfd_create(name), "wb", buffering=0) as file:
        written = 0
        while written < len(content):
            written += file.write(memoryview(content)[written:])
        yield {RECORDING: {"process": os.getpid(), "descriptor": file.fileno(), "name": name}}


def take_over(metadata: Mapping[str, Any]) -> bytes:
    """Read what another process holds in `handed_over`.

    Raises:
        HandoverError: it cannot be seen from here, or it is something else by now.
    """
    place = metadata[RECORDING]
    path = Path("/proc") / str(int(place["process"])) / "fd" / str(int(place["descriptor"]))
    name = str(place["name"])
    try:
        with path.open("rb") as file:
            # By its own descriptor: the gateway's may have been closed, and its number used again.
            held = str(Path(f"/proc/self/fd/{file.fileno()}").readlink())
            if not name.startswith(_NAME) or held != f"/memfd:{name} (deleted)":
                raise HandoverError(f"{path} is not the recording {name}")
            return file.read()
    except OSError as error:
        raise HandoverError(f"{path} cannot be read: {error}") from error
