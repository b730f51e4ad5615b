"""The gateway's HTTP connections with bounds: uses of private parts of uvicorn and httptools.

uvicorn bounds neither the length of a head, nor the time a client takes for it, nor the number of
connections, and BentoML makes uvicorn's configuration itself. So the class that speaks HTTP is
replaced. As for `seam.py`, `pyproject.toml` pins the versions that this was written for, and
`tests/contract/test_http_seam.py` tests what it relies on.
"""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import httptools
from starlette.responses import Response
from uvicorn import config as uvicorn_config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bandstand.errors import (
    BandstandError,
    HeadersTooLargeError,
    MalformedRequestError,
    OverloadedError,
    RequestTimeoutError,
    UrlTooLongError,
)
from bandstand.settings import Settings
from bandstand_bentos.connections import RESERVED, Connections
from bandstand_bentos.shares import CLIENT, client_of

_MOST_HEADERS = 100
_MOST_PIPELINED = 8
_LINE_BYTES = 4  # of a header, beside its name and value
_LINGER_SECONDS = 5.0
"""How long a client that was answered too early may still send; its bytes are dropped. A connection
closed with bytes unread is reset, and the client may lose the answer."""
_SEND_SECONDS = 30.0
"""How long a client may read nothing of an answer that does not fit in the buffers."""
_RETRY_AFTER_SECONDS = 1.0
_SHARE_OF_RESERVED = 0.5  # of one client
_PROBES = frozenset({b"/livez", b"/readyz", b"/health", b"/metrics"})

Refuse = Callable[[BandstandError, str], Response]
"""Counts and logs the refusal of a client's connection, and returns its response."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of all connections of a process; see the settings of these names."""

    url_bytes: int
    header_bytes: int
    header_seconds: float
    keep_alive_seconds: float
    full: Connections
    reserved: Connections
    """Those above `max_connections`: only health and metrics are answered on them."""
    refuse: Refuse


def bound_connections(settings: Settings, refuse: Refuse) -> type[HttpToolsProtocol]:
    """Make uvicorn bound the connections of this process; return the class that does.

    Relies on `uvicorn.config.HTTP_PROTOCOLS`, which may hold a class, and which `Config.load` reads
    when the server starts, after the service's module was imported.
    """
    bounds = Bounds(
        url_bytes=settings.max_url_bytes,
        header_bytes=settings.max_header_bytes,
        header_seconds=settings.header_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        full=Connections(settings.max_connections, settings.client_share),
        reserved=Connections(RESERVED, _SHARE_OF_RESERVED),
        refuse=refuse,
    )
    bounded = type("BoundedProtocol", (_BoundedProtocol,), {"bounds": bounds})
    uvicorn_config.HTTP_PROTOCOLS["auto"] = bounded  # type: ignore[assignment]
    return bounded


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """Ends the parsing of a request that is refused."""


class _BoundedProtocol(HttpToolsProtocol):
    """One connection; a refusal is a JSON answer as any other.

    Relies on `HttpToolsProtocol` being an asyncio protocol that httptools calls back, on its
    attributes `transport`, `client`, `parser`, `url`, `cycle`, `pipeline` and `ws_protocol_class`,
    and on `on_response_complete` being called after each answer.
    """

    bounds: ClassVar[Bounds]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ws_protocol_class = None  # a web socket would not be bounded
        self.timeout_keep_alive = self.bounds.keep_alive_seconds  # type: ignore[assignment]
        self._address = ""
        self._places: Connections | None = None
        self._refusal: BandstandError | None = None
        self._is_refused = False
        self._in_message = self._has_head = False
        self._head_bytes = self._header_count = 0
        self._received = self._in_bodies = 0  # bytes since the previous message's end
        self._head_timer: TimerHandle | None = None
        self._close_timer: TimerHandle | None = None
        self._send_timer: TimerHandle | None = None

    # Connections.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = client_of(self.client[0] if self.client else "")
        for places in (self.bounds.full, self.bounds.reserved):
            if places.enter(self, self._address):
                self._places = places
                self._await_head()
                return
        self._is_refused = True
        self._send_refusal(_too_many(self.bounds.full))
        self.transport.close()  # without waiting for the client: it has no place

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        for timer in (self._head_timer, self._close_timer, self._send_timer):
            if timer is not None:
                timer.cancel()
        if self._places is not None:
            self._places.leave(self, self._address)
            self._places = None

    def make_room(self) -> None:
        """Close this idle connection for another one."""
        self._places = None
        self.transport.abort()

    def eof_received(self) -> None:
        if self._is_refused:
            self.transport.abort()

    # What is received.

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
        self._received += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._answer_refusal(self._refusal or MalformedRequestError("this is not HTTP"))
            return
        except httptools.HttpParserUpgrade:
            # Answered as HTTP/1.1; what follows may be something else.
            self.cycle.keep_alive = False
        if self._received > 2 * self._in_bodies + self.bounds.header_bytes:
            too_small = MalformedRequestError(
                "the chunks of the body have more frames than content"
            )
            self._answer_refusal(too_small if self._has_head else _too_large(self.bounds))
        elif not self._has_head and (self._in_message or self._received):
            self._await_head()

    def on_message_begin(self) -> None:
        self._in_message, self._has_head = True, False
        self._head_bytes = self._header_count = 0
        super().on_message_begin()
        self.scope[CLIENT] = self._address  # type: ignore[literal-required]

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._head_bytes += len(url)
        if self._head_bytes > self.bounds.url_bytes:
            self._stop(UrlTooLongError(f"a URL has at most {self.bounds.url_bytes} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + _LINE_BYTES
        self._header_count += 1
        if self._head_bytes > self.bounds.header_bytes or self._header_count > _MOST_HEADERS:
            self._stop(_too_large(self.bounds))
        if not self._has_head:  # those after a body would change the headers that were read
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        is_probe = self.url.partition(b"?")[0] in _PROBES
        if self._places is self.bounds.reserved and not is_probe:
            self._stop(_too_many(self.bounds.full))
        if len(self.pipeline) >= _MOST_PIPELINED:
            self._stop(MalformedRequestError("too many requests without waiting for an answer"))
        self._has_head = True
        super().on_headers_complete()
        if self._places is not None:
            self._places.busy(self, self._address)
        if self._places is self.bounds.reserved:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._in_bodies += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = self._has_head = False
        self._received = self._in_bodies = 0
        super().on_message_complete()
        if self._close_timer is not None:  # answered before its end
            self._close_timer.cancel()
            self._close_timer = None
            self._keep_alive()

    def _stop(self, refusal: BandstandError) -> None:
        """End parsing; httptools turns any exception of a callback into one of its own."""
        self._refusal = refusal
        raise _Refused

    # Time.

    def _await_head(self) -> None:
        if self._head_timer is None:
            seconds = self.bounds.header_seconds
            self._head_timer = self.loop.call_later(seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._is_answering():  # the half head of the next request
            self._await_head()
        elif self._in_message:
            seconds = self.bounds.header_seconds
            message = f"the head of the request was not complete within {seconds:g} s"
            self._answer_refusal(RequestTimeoutError(message))
        else:
            self._close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_in(_SEND_SECONDS)
        elif not self._is_answering():
            if self._places is not None:
                self._places.idle(self, self._address)
            if self._in_message and self._has_head:  # its body was not read
                self._close_in(_LINGER_SECONDS)

    def _keep_alive(self) -> None:
        """Wait for the next request, as uvicorn does after an answer."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_in(_SEND_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None and not self.transport.is_closing():
            self._send_timer.cancel()
            self._send_timer = None

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # Ends.

    def _close(self) -> None:
        """Close when everything is sent, or could not be sent in time."""
        self.transport.close()
        self._abort_in(_SEND_SECONDS)

    def _close_in(self, seconds: float) -> None:
        if self._close_timer is None:
            self._close_timer = self.loop.call_later(seconds, self._close)

    def _abort_in(self, seconds: float) -> None:
        if self._send_timer is None:
            self._send_timer = self.loop.call_later(seconds, self.transport.abort)

    def _answer_refusal(self, error: BandstandError) -> None:
        """Refuse the current request, if an answer can still be sent, and close."""
        if self.transport.is_closing():
            return
        self._is_refused = True
        if self._is_answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started or self.pipeline:
                self._close()
                return
        self._send_refusal(error)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._close_in(_LINGER_SECONDS)

    def _send_refusal(self, error: BandstandError) -> None:
        response = self.bounds.refuse(error, self._address)
        self.transport.write(_as_http(response, self.server_state.default_headers))


def _as_http(response: Response, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    headers = (*default_headers, *response.raw_headers, (b"connection", b"close"))
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"".join((STATUS_LINE[response.status_code], lines, b"\r\n", bytes(response.body)))


def _too_many(connections: Connections) -> OverloadedError:
    return OverloadedError(
        f"{len(connections)} connections are open, or too many of this client",
        retry_after=_RETRY_AFTER_SECONDS,
    )


def _too_large(bounds: Bounds) -> HeadersTooLargeError:
    return HeadersTooLargeError(
        f"a request has at most {bounds.header_bytes} bytes of headers, and {_MOST_HEADERS} headers"
    )
