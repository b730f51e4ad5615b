"""The gateway's middleware: request ids, body limit, admission, metrics, access log."""

from __future__ import annotations

import logging
import re
import uuid
from contextvars import copy_context
from time import perf_counter

from opentelemetry import context, propagate, trace
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bandstand.errors import BandstandError, PayloadTooLargeError
from bandstand.operations.encoding import to_json
from bandstand.telemetry import ERRORS, REQUEST_SECONDS, request_id
from bandstand_bentos.admission import Admission
from bandstand_client.contract.shared import Refusal

logger = logging.getLogger("bandstand.access")

REQUEST_ID_HEADER = "X-Request-ID"
_ACCEPTED_ID = re.compile(r"[\x21-\x7e]{1,128}")
_CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that disconnected; never sent


def error_response(error: BandstandError) -> Response:
    """Return the response of a refusal; all refusals have this form."""
    ERRORS.labels(error.error_type).inc()
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    # A message can repeat half a surrogate pair from a JSON body, which UTF-8 does not have.
    message = error.message.encode("utf-8", "replace").decode()
    body = Refusal(error=message, error_type=error.error_type, request_id=request_id.get())
    return Response(to_json(body), error.status, headers, "application/json")


def refuse_connection(error: BandstandError, client: str) -> Response:
    """Return the response of a refusal that has no request, and log it."""

    def refuse() -> Response:
        request_id.set(uuid.uuid4().hex)
        response = error_response(error)
        response.headers[REQUEST_ID_HEADER] = request_id.get()
        facts = {"status": error.status, "error_type": error.error_type, "client": client}
        logger.info("- - %d %s", error.status, error.message, extra=facts)
        return response

    # The id belongs to this refusal: the connection's context is that of its other requests.
    return copy_context().run(refuse)


class _Exchange:
    """Counts the bytes of one request, limits them, and records the status of its answer."""

    def __init__(self, receive: Receive, send: Send, limit: int, identity: str) -> None:
        self._receive = receive
        self._send = send
        self._limit = limit
        self._identity = identity
        self.received_bytes = 0
        self.status = _CLIENT_CLOSED_REQUEST

    async def receive(self) -> Message:
        message = await self._receive()
        self.received_bytes += len(message.get("body", b""))
        if self.received_bytes > self._limit:
            raise too_large(self._limit)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID_HEADER] = self._identity
        await self._send(message)


def too_large(limit: int) -> PayloadTooLargeError:
    """Return the refusal of a body above the limit."""
    return PayloadTooLargeError(f"the request body is larger than {limit} bytes")


class Edge:
    """ASGI middleware around the FastAPI app.

    Args:
        app: the application that answers.
        admission: limits the POST requests.
        max_body_bytes: size of the largest accepted body.
    """

    def __init__(self, app: ASGIApp, admission: Admission, max_body_bytes: int) -> None:
        self._app = app
        self._admission = admission
        self._limit = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        identity = given if _ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex
        request_id.set(identity)
        if not trace.get_current_span().get_span_context().is_valid:
            # No span is open: the caller's trace is still passed on and logged.
            context.attach(propagate.extract(Headers(scope=scope)))
        exchange = _Exchange(receive, send, self._limit, identity)
        try:
            await self._answer(scope, exchange)
        finally:
            self._record(scope, exchange, perf_counter() - started)

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        if scope["method"] != "POST":
            await self._app(scope, exchange.receive, exchange.send)
            return
        try:
            stated = Headers(scope=scope).get("content-length", "0")
            if stated.isdigit() and int(stated) > self._limit:
                raise too_large(self._limit)
            with self._admission.entered():
                await self._app(scope, exchange.receive, exchange.send)
        except BandstandError as error:
            await error_response(error)(scope, exchange.receive, exchange.send)

    def _record(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        # The route's template, never the path: clients choose paths, which must not become labels.
        route = getattr(scope.get("route"), "path", "unmatched")
        method, status = scope["method"], exchange.status
        REQUEST_SECONDS.labels(method, route, status).observe(seconds)
        level = logging.DEBUG if method == "GET" and status < 400 else logging.INFO  # noqa: PLR2004
        if logger.isEnabledFor(level):
            logger.log(
                level,
                "%s %s %d",
                method,
                scope["path"],
                status,
                extra={
                    "method": method,
                    "path": scope["path"],
                    "status": status,
                    "milliseconds": round(seconds * 1e3, 1),
                    "bytes_in": exchange.received_bytes,
                    "client": (scope.get("client") or ("-",))[0],
                },
            )
