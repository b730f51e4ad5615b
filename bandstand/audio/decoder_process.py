"""The program of a decoder process: `python -m bandstand.audio.decoder_process DESCRIPTOR`.

It reads requests from a Unix socket and decodes one recording after the other, until the socket is
closed. Its memory is limited, so containers that lie about their content harm nobody else: FFmpeg
allocates what they state before any other limit is looked at.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bandstand.audio.decode import DecodeLimits, Encoded, OutputFormat, Write, decode_to
from bandstand.audio.mixdown import SIDES
from bandstand.audio.waveform import FloatArray
from bandstand.errors import BandstandError

MEMORY_BYTES = 96 * 1024 * 1024
"""Memory for one recording. The largest index of a recording within the other limits takes half."""
KEPT_BYTES = 32 * 1024 * 1024
"""A process that keeps more than this after a recording ends: some damaged content makes FFmpeg
lose memory."""
MOST_DESCRIPTORS = 16
MOST_MESSAGE_BYTES = 64 * 1024


def send(connection: socket.socket, message: Any, descriptors: list[int] | None = None) -> None:
    """Send a message that JSON can represent, and descriptors of open files."""
    socket.send_fds(connection, [json.dumps(message).encode() + b"\n"], descriptors or [])


def receive(connection: socket.socket) -> tuple[Any, list[int]]:
    """Return the next message and its descriptors.

    Raises:
        EOFError: the other side has closed the connection, or has ended.
    """
    content, descriptors, _, _ = socket.recv_fds(connection, MOST_MESSAGE_BYTES, MOST_DESCRIPTORS)
    while content and not content.endswith(b"\n"):
        more = connection.recv(MOST_MESSAGE_BYTES)
        content = content + more if more else b""
    if not content:
        raise EOFError
    return json.loads(content), descriptors


def _writer(descriptor: int) -> Write:
    def write(samples: FloatArray) -> None:
        block = np.ascontiguousarray(samples).view(np.uint8).data
        while block:
            block = block[os.write(descriptor, block) :]

    return write


@contextmanager
def _content(descriptor: int) -> Iterator[Encoded]:
    size = os.fstat(descriptor).st_size
    if not size:
        yield b""  # nothing cannot be mapped
        return
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as mapped:
        yield mapped


def _decode(request: Any, descriptors: list[int]) -> dict[str, Any]:
    """Decode one recording into the files of the request; return the reply."""
    source, *stores = descriptors
    left = iter(stores)
    outputs = []
    for channels, sample_rate in request["wanted"]:
        writes = [_writer(next(left)) for _ in SIDES[channels]]
        outputs.append((OutputFormat(channels, sample_rate), writes))
    try:
        with _content(source) as content:
            recording = decode_to(content, DecodeLimits(**request["limits"]), outputs)
        return {"recording": asdict(recording)}
    except BandstandError as error:
        return {"error": error.to_fields()}


def _limit_memory() -> None:
    """Limit the memory of this process to what it has now and `MEMORY_BYTES`.

    Files in shared memory, which the recording and its samples are in, do not count.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            most = int(line.split()[1]) * 1024 + MEMORY_BYTES
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _resident_bytes() -> int:
    """Return the memory that this process has now; 0 where the system does not tell it."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * mmap.PAGESIZE


def main() -> None:
    """Answer requests until the connection is closed."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    # Ctrl-C reaches all processes of a terminal; this one ends when its parent has finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        _limit_memory()
    gc.freeze()
    most = _resident_bytes() + KEPT_BYTES
    send(connection, {"ready": True})
    while True:
        try:
            request, descriptors = receive(connection)
        except EOFError:
            return
        try:
            reply = _decode(request, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        send(connection, reply)
        # Containers are in reference cycles, and Python does not know how large they are.
        gc.collect()
        if _resident_bytes() > most:
            return  # the parent starts another one


if __name__ == "__main__":
    main()
