"""A server of one file, at any path, with configurable faults: the hub, a mirror, a web server."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme

CONTENT = os.urandom(3_000_000)


@dataclass
class FileServer:
    """A server of one file, at any path, that misbehaves as told."""

    content: bytes = CONTENT
    etag: str | None = '"v1"'
    knows_ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    """Bytes sent before the connection is cut, for each of the first answers."""
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers for each of the first answers, without content."""
    redirect: str | None = None
    gate: threading.Event | None = None
    """Answers wait for it,"""
    ungated: int = 0
    """except for so many at first."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def gets(self) -> list[dict[str, str]]:
        return [headers for method, _, headers in self.requests if method == "GET"]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.command, request.path, headers))
        if self.gate is not None and len(self.requests) > self.ungated:
            self.gate.wait(30)
        if self.statuses:
            status, extra = self.statuses.pop(0)
            self._start(request, status, {"Content-Length": "0", **extra})
        elif self.redirect is not None:
            self._start(request, 302, {"Location": self.redirect, "Content-Length": "0"})
        else:
            self._send_content(request, headers)

    def _send_content(self, request: BaseHTTPRequestHandler, headers: dict[str, str]) -> None:
        body, status, extra = self.content, 200, {"X-Repo-Commit": "c" * 40}
        wanted = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if wanted and self.knows_ranges and headers.get("if-range", self.etag) == self.etag:
            start = int(wanted[1])
            status, body = 206, self.content[start:]
            size = len(self.content)
            extra["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        if self.etag:
            extra["ETag"] = self.etag
        self._start(request, status, {"Content-Length": str(len(body)), **extra})
        if request.command == "GET":
            cut = self.cut_after.pop(0) if self.cut_after else len(body)
            request.wfile.write(body[:cut])
            request.close_connection = cut < len(body)

    @staticmethod
    def _start(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up are what these tests are about


@contextmanager
def serving(files: FileServer, authority: trustme.CA | None = None) -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            files.answer(self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = QuietServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    scheme = "http"
    if authority is not None:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    files.url = f"{scheme}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield files
    finally:
        if files.gate is not None:
            files.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
