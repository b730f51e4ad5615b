"""Clients that behave badly on the wire: they stop half way, leave, or send without end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from select import select
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

import psutil

from bandstand_bentos.wiring import GATEWAY
from harness.serving import Server

_PIECE = 64 * 1024

AfterHalf = Literal["closes", "is silent"]


@dataclass
class HalfRequest:
    """A proxy that passes on the first bytes of what a real client sends; a context manager.

    After them it closes both connections, or holds them open and passes on nothing more.

    Args:
        server: the host and port of the real server.
        bytes_passed: how many.
        then: what follows.
    """

    server: tuple[str, int]
    bytes_passed: int
    then: AfterHalf
    reached: threading.Event = field(default_factory=threading.Event)
    """Set when the first bytes of one connection are through, and nothing more will be."""
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where it listens, `host:port`."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> HalfRequest:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open.append(self._listener)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        for one in self._open:
            _shut(one)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self.server)
                self._open += [client, server]
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=_back, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        left = self.bytes_passed
        with suppress(OSError):
            while left and (piece := client.recv(min(left, _PIECE))):
                server.sendall(piece)
                left -= len(piece)
            if left == 0:
                self.reached.set()
        if left or self.then == "closes":
            _shut(client)
            _shut(server)


def _back(server: socket.socket, client: socket.socket) -> None:
    """Pass on what the server says."""
    with suppress(OSError):
        while piece := server.recv(_PIECE):
            client.sendall(piece)


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@dataclass(frozen=True)
class Refused:
    """How far a request got, in bytes of its body, and what it was answered."""

    bytes_sent: int
    status: int
    body: bytes


@contextmanager
def connection(url: str, client: str = "127.0.0.1") -> Iterator[socket.socket]:
    """Open a plain TCP connection to the server of an http URL, or of a `host:port`.

    Args:
        url: of the server.
        client: the address to connect from; all of 127.0.0.0/8 are this host's.
    """
    with socket.create_connection(address_of(url), 60, (client, 0)) as opened:
        yield opened


def address_of(url: str) -> tuple[str, int]:
    """Return the host and port of an http URL, or of a `host:port`."""
    where = urlsplit(url if "://" in url else f"tcp://{url}")
    assert where.hostname is not None
    assert where.port is not None
    return where.hostname, where.port


def send_until_answered(url: str, head: bytes, pieces: Iterable[bytes]) -> Refused:
    """Send a request until it is through, or the server answers or hangs up; read the answer.

    Args:
        url: of the server.
        head: the request's first bytes, headers and all.
        pieces: of its body, as they go over the wire.
    """
    sent = 0
    with connection(url) as opened:
        with suppress(ConnectionError):
            opened.sendall(head)
            for piece in pieces:
                if select([opened], [], [], 0)[0]:
                    break
                opened.sendall(piece)
                sent += len(piece)
        response = HTTPResponse(opened)
        response.begin()
        return Refused(sent, response.status, response.read())


def most_memory(server: Server) -> int:
    """Return the most bytes of memory that the gateway's process ever held."""
    process = server.worker(GATEWAY)
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """Stop a process (SIGSTOP), and let it go on at the end."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()
