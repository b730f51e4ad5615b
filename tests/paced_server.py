"""An HTTP server of a known pace that answers as Bandstand does: one request at a time."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Answers = Callable[[bytes], tuple[int, dict[str, Any]]]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEALTH = {"status": "ok", "version": "0.0.0", "checks": {}}


def genre(label: str, *, decode_ms: float = 1.0) -> dict[str, Any]:
    """Return an answer that is sure of one genre."""
    return {
        "primary_genre": label,
        "probability": 1.0,
        "confidence": 100.0,
        "predictions": [
            {"genre": label, "probability": 1.0, "confidence": 100.0, "raw_score": 9.0}
        ],
        "all_scores": {label: 1.0},
        "method": "genre_features",
        "members": [{"model": "genre_features", "version": 1, "weight": 1.0}],
        "audio": {"duration_seconds": 2.0, "sha256": "", "sample_rate": 22_050},
        "timings_ms": {"decode": decode_ms, "inference": 2.0, "total": 4.0},
    }


@dataclass
class PacedServer:
    """A server that works `seconds` on each recording, on `at_once` of them at a time.

    Attributes:
        seconds: of work on a recording; it is slept, so it is never less.
        answers: status and JSON for the content of a request.
        at_once: how many are worked on at a time.
        url: where it answers.
        most_waiting: the most requests that were under way at once.
    """

    seconds: float
    answers: Answers
    at_once: int = 1
    url: str = ""
    most_waiting: int = 0
    _waiting: int = 0
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, ready: threading.Event, over: asyncio.Event) -> None:
        """Answer until told that it is over."""
        turn = asyncio.Semaphore(self.at_once)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    await self._exchange(reader, writer, turn)
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**24)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await over.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, turn: asyncio.Semaphore
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        content = await reader.readexactly(int(length[1]) if length else 0)
        path = head.split(b" ", 2)[1].partition(b"?")[0]
        status, body = 200, b""
        if path == b"/predict":
            status, answer = await self._work(content, turn)
            body = json.dumps(answer).encode()
        elif path != b"/metrics":
            body = json.dumps({"models": []} if path == b"/models" else _HEALTH).encode()
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
        await writer.drain()

    async def _work(self, content: bytes, turn: asyncio.Semaphore) -> tuple[int, dict[str, Any]]:
        self._waiting += 1
        self.most_waiting = max(self.most_waiting, self._waiting)
        async with turn:
            await asyncio.sleep(self.seconds)
        self._waiting -= 1
        return self.answers(content)


@contextmanager
def paced_server(
    seconds: float = 0.005,
    answers: Answers = lambda _content: (200, genre("jazz")),
    at_once: int = 1,
) -> Iterator[PacedServer]:
    """Run one in a thread of its own until the block ends.

    With no work at all it would keep the load generator busy, and that fails a run.
    """
    server = PacedServer(seconds, answers, at_once)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(server.serve(ready, over)), daemon=True
    )
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
