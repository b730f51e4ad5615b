"""A load generator with little overhead: complete requests as bytes, over plain connections.

It shares the cores with the server that it measures, so it parses no more than it must.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

LOST = "lost"
"""Counted instead of a status: the connection broke, or no answer came in time."""

_ANSWER_SECONDS = 300.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_BOUNDARY = b"bandstand-benchmark-boundary"


def raw_post(path: str, body: bytes) -> bytes:
    """Return a request with `body` as it is."""
    return _post(path, "application/octet-stream", body)


def multipart_post(path: str, body: bytes) -> bytes:
    """Return a request with `body` as the upload `file` of a form."""
    form = (
        b"--%b\r\n"
        b'Content-Disposition: form-data; name="file"; filename="clip.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\n%b\r\n--%b--\r\n"
    ) % (_BOUNDARY, body, _BOUNDARY)
    return _post(path, f"multipart/form-data; boundary={_BOUNDARY.decode()}", form)


def _post(path: str, kind: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(slots=True)
class Load:
    """What came of some requests.

    Attributes:
        statuses: answers by HTTP status, and `LOST`.
        latencies: seconds from a request's first byte to its answer's last, answered ones only.
        wall_seconds: from the first request's start to the last one's end.
        own_cpu_seconds: what this load generator itself used.
    """

    statuses: Counter[int | str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    wall_seconds: float = 0.0
    own_cpu_seconds: float = 0.0


def drive(url: str, requests: Iterable[bytes], concurrency: int) -> Load:
    """Send requests over `concurrency` connections, each its next one when it has its answer."""
    address = urlsplit(url)
    load = Load()
    todo = iter(requests)

    async def all_connections() -> None:
        connections = (
            _Connection(str(address.hostname), address.port or 80, load) for _ in range(concurrency)
        )
        await asyncio.gather(*(connection.send_all(todo) for connection in connections))

    started, own = time.perf_counter(), time.process_time()
    asyncio.run(all_connections())
    load.own_cpu_seconds = time.process_time() - own
    load.wall_seconds = time.perf_counter() - started
    return load


class _Connection:
    """One keep-alive connection, opened when needed."""

    def __init__(self, host: str, port: int, load: Load) -> None:
        self._host = host
        self._port = port
        self._load = load
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send_all(self, todo: Iterator[bytes]) -> None:
        """Send what is left to do, one after the other."""
        for request in todo:
            started = time.perf_counter()
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    status = await self._exchange(request)
            except (OSError, EOFError, ValueError, TimeoutError):
                self._close()
                self._load.statuses[LOST] += 1
                continue
            self._load.latencies.append(time.perf_counter() - started)
            self._load.statuses[status] += 1
        self._close()

    async def _exchange(self, request: bytes) -> int:
        """Send one request and read its answer; return its status."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None:
            raise ValueError("an answer without a length")
        await reader.readexactly(int(length.group(1)))
        if _CLOSES.search(head):
            self._close()
        return int(head[9:12])  # b"HTTP/1.1 200 …"

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
