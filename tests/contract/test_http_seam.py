"""What `http_seam.py` relies on in uvicorn and httptools, and the bounds that it sets.

uvicorn's server runs in this process, with a small app.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from bandstand.settings import Settings
from bandstand_bentos import http_seam
from bandstand_bentos.connections import RESERVED, Connections
from bandstand_bentos.edge import refuse_connection
from tests.gauges import eventually

URL_BYTES, HEADER_BYTES = 200, 2_000
SHORT, LONG = 0.2, 60.0
LARGE = bytes(8_000_000)
GET = b"GET %s HTTP/1.1\r\nHost: b\r\n\r\n"
CHUNKED = b"POST /read HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n"


class App:
    """Answers `/large` with many bytes, and `/wait` when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b"ok"
        if scope["path"] == "/read":
            while (message := await receive()).get("more_body"):
                pass
            if message["type"] == "http.disconnect":
                return
        elif scope["path"] == "/large":
            body = LARGE
        elif scope["path"] == "/wait":
            self.waiting += 1
            await self.go_on.wait()
        elif scope["path"] == "/headers":
            body = json.dumps([name.decode() for name, _ in scope["headers"]]).encode()
        length = b"%d" % len(body)
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def bounded(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Peer]:
    """Run the server; the times that a test does not name are long."""
    defaults = {"max_url_bytes": URL_BYTES, "max_header_bytes": HEADER_BYTES}
    times = {"header_seconds": LONG, "keep_alive_seconds": LONG, "client_share": 1.0}
    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", "")
    kind: Any = http_seam.bound_connections(
        Settings(**{**defaults, **times, **settings}), refuse_connection
    )
    app = App()
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, timeout_keep_alive=1)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    assert config.http_protocol_class is kind
    peer = Peer(server.servers[0].sockets[0].getsockname()[1], app, kind.bounds.full)
    try:
        yield peer
    finally:
        app.go_on.set()
        await peer.aclose()
        server.force_exit = server.should_exit = True
        await running


class Peer:
    """Opens connections to the server; `answer` returns a status and the JSON of a refusal."""

    def __init__(self, port: int, app: App, connections: Connections) -> None:
        self.port, self.app, self.connections = port, app, connections
        self.writers: list[asyncio.StreamWriter] = []

    async def open(
        self, *sent: bytes, address: str = "127.0.0.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(address, 0)
        )
        self.writers.append(writer)
        for piece in sent:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return reader, writer

    async def aclose(self) -> None:
        for writer in self.writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def answer(self, *sent: bytes, address: str = "127.0.0.1") -> tuple[int, Any]:
        return await read_answer((await self.open(*sent, address=address))[0])


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    async with asyncio.timeout(LONG):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        (length,) = (int(x.partition(":")[2]) for x in lines if x.startswith("content-length:"))
        body = await reader.readexactly(length)
    status = int(lines[0].split()[1])
    if status == 200:
        return status, body
    refusal = json.loads(body)
    assert f"x-request-id: {refusal['request_id']}" in lines
    return status, refusal["error_type"]


async def closes(reader: asyncio.StreamReader) -> bool:
    """Wait for the end of a connection; return whether nothing came before it."""
    async with asyncio.timeout(LONG):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


async def until(condition: Callable[[], bool]) -> None:
    async def check() -> bool:
        return condition()

    await eventually(check)


# Bytes.


ENDLESS: dict[str, tuple[list[bytes], tuple[int, str]]] = {
    "url": ([GET % (b"/" + b"x" * URL_BYTES)], (414, "url_too_long")),
    "half a url": ([b"GET /" + b"x" * 100] + [b"x" * 100] * 100, (414, "url_too_long")),
    "headers": ([b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n"], (431, "headers_too_large")),
    "value": ([b"GET / HTTP/1.1\r\na: " + b"b" * HEADER_BYTES], (431, "headers_too_large")),
    "name": ([b"GET / HTTP/1.1\r\n"] + [b"a" * 100] * 100, (431, "headers_too_large")),
    "empty lines": ([b"\r\n" * HEADER_BYTES], (431, "headers_too_large")),
    "tiny chunks": ([CHUNKED, b"1\r\nx\r\n" * HEADER_BYTES], (400, "malformed_request")),
    "extension": ([CHUNKED, *[b"1;" + b"x" * 100] * 100], (400, "malformed_request")),
    "trailers": ([CHUNKED, b"0\r\n" + b"a: b\r\n" * 101], (431, "headers_too_large")),
    "TLS": ([b"\x16\x03\x01"], (400, "malformed_request")),
    "proxy": ([b"CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n\r\n"], (400, "malformed_request")),
}


@pytest.mark.parametrize(("pieces", "refusal"), ENDLESS.values(), ids=ENDLESS)
async def test_a_head_without_end_is_refused(
    monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], refusal: tuple[int, str]
) -> None:
    async with bounded(monkeypatch) as peer:
        reader, _ = await peer.open(*pieces)
        assert await read_answer(reader) == refusal
        assert await closes(reader)
        assert await peer.answer(GET % b"/") == (200, b"ok")


async def test_what_is_within_the_bounds_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bounded(monkeypatch) as peer:
        assert await peer.answer(GET % (b"/" + b"x" * (URL_BYTES - 1))) == (200, b"ok")
        chunks = b"%x\r\n%s\r\n" % (1_000, b"x" * 1_000) * 100
        assert await peer.answer(CHUNKED, chunks, b"0\r\n\r\n") == (200, b"ok")
        reader, writer = await peer.open(GET % b"/")
        for _ in range(100):
            assert await read_answer(reader) == (200, b"ok")
            writer.write(GET % b"/")


async def test_headers_after_the_body_are_not_the_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    head = CHUNKED.replace(b"/read", b"/headers")
    async with bounded(monkeypatch) as peer:
        _, names = await peer.answer(head + b"0\r\nAuthorization: Bearer x\r\n\r\n")
        assert json.loads(names) == ["host", "transfer-encoding"]


async def test_requests_ahead_of_their_answers_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bounded(monkeypatch) as peer:
        reader, _ = await peer.open(GET % b"/" * 5)
        for _ in range(5):
            assert await read_answer(reader) == (200, b"ok")
        assert await closes((await peer.open(GET % b"/wait" * 50))[0])


async def test_a_web_socket_is_answered_as_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    async with bounded(monkeypatch) as peer:
        reader, _ = await peer.open(b"GET / HTTP/1.1\r\nHost: b\r\n" + upgrade + key)
        assert await read_answer(reader) == (200, b"ok")
        assert await closes(reader)


# Time.


async def test_silence_before_a_request_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with bounded(monkeypatch, header_seconds=SHORT) as peer:
        assert await closes((await peer.open())[0])
        for half in (b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: b\r\nA: b"):
            assert await peer.answer(half) == (408, "request_timeout")
        assert await closes((await peer.open(b"\r\n"))[0])


async def test_the_second_head_has_as_much_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bounded(monkeypatch, header_seconds=SHORT) as peer:
        reader, writer = await peer.open(GET % b"/")
        assert await read_answer(reader) == (200, b"ok")
        writer.write(b"GET / HT")
        assert await read_answer(reader) == (408, "request_timeout")


async def test_a_half_head_waits_while_an_answer_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with bounded(monkeypatch, header_seconds=SHORT) as peer:
        reader, _ = await peer.open(GET % b"/wait" + b"GET / HT")
        await asyncio.sleep(4 * SHORT)
        peer.app.go_on.set()
        assert await read_answer(reader) == (200, b"ok")
        assert await read_answer(reader) == (408, "request_timeout")


async def test_a_connection_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bounded(monkeypatch, keep_alive_seconds=SHORT) as peer:
        reader, _ = await peer.open(GET % b"/")
        assert await read_answer(reader) == (200, b"ok")
        assert await closes(reader)


@pytest.mark.parametrize("rest", [b"", b"x"])
async def test_a_body_that_nobody_reads_holds_no_connection(
    monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    monkeypatch.setattr(http_seam, "_LINGER_SECONDS", SHORT)
    async with bounded(monkeypatch, keep_alive_seconds=SHORT) as peer:
        reader, writer = await peer.open(
            b"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 1000\r\n\r\n"
        )
        assert await read_answer(reader) == (200, b"ok")
        writer.write(rest)
        assert await closes(reader)


async def test_a_body_that_ends_late_is_followed_by_the_next_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with bounded(monkeypatch, keep_alive_seconds=SHORT) as peer:
        reader, writer = await peer.open(b"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\n\r\n")
        assert await read_answer(reader) == (200, b"ok")
        writer.write(b"x" + GET % b"/")
        assert await read_answer(reader) == (200, b"ok")
        assert await closes(reader)


async def test_who_reads_no_answer_loses_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_seam, "_SEND_SECONDS", SHORT)
    async with bounded(monkeypatch) as peer:
        await peer.open(GET % b"/large")
        await until(lambda: len(peer.connections) == 0)


# Connections.


async def test_idle_connections_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bounded(monkeypatch, max_connections=4) as peer:
        held = [await peer.open() for _ in range(10)]
        for reader, _ in held[:6]:
            assert await closes(reader)
        held[-1][1].write(GET % b"/")
        assert await read_answer(held[-1][0]) == (200, b"ok")


async def test_busy_ones_stay_and_probes_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bounded(monkeypatch, max_connections=4) as peer:
        busy = [await peer.open(GET % b"/wait") for _ in range(4)]
        await until(lambda: peer.app.waiting == 4)
        assert await peer.answer(GET % b"/") == (429, "overloaded")
        silent = [await peer.open() for _ in range(3 * RESERVED)]
        for path in (b"/livez", b"/readyz", b"/metrics?name=x"):
            assert await peer.answer(GET % path) == (200, b"ok")
        assert await closes(silent[0][0])
        peer.app.go_on.set()
        for reader, _ in busy:
            assert await read_answer(reader) == (200, b"ok")


async def test_one_client_takes_no_connection_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bounded(monkeypatch, max_connections=8, client_share=0.5) as peer:
        greedy = [await peer.open(GET % b"/wait", address="127.0.0.2") for _ in range(4)]
        await until(lambda: peer.app.waiting == 4)
        assert await peer.answer(GET % b"/", address="127.0.0.2") == (429, "overloaded")
        others = [await peer.open(GET % b"/", address="127.0.0.3") for _ in range(4)]
        for reader, _ in others:
            assert await read_answer(reader) == (200, b"ok")
        # All are taken: an idle one of the others' makes room, none of those that wait.
        assert await peer.answer(GET % b"/", address="127.0.0.4") == (200, b"ok")
        assert await closes(others[0][0])
        peer.app.go_on.set()
        for reader, _ in greedy:
            assert await read_answer(reader) == (200, b"ok")
