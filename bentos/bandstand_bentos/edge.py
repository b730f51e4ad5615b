"""The gateway's middleware: request ids, admission, limits of bodies, metrics, access log."""

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

from bandstand.errors import BandstandError
from bandstand.operations.encoding import to_json
from bandstand.telemetry import ERRORS, REQUEST_SECONDS, request_id
from bandstand_bentos.admission import Admission
from bandstand_bentos.body_bytes import BodyLimits, RequestBody, too_large
from bandstand_bentos.shares import CLIENT
from bandstand_client.contract.shared import Refusal

logger = logging.getLogger("bandstand.access")

REQUEST_ID_HEADER = "X-Request-ID"
BODY_MEMORY = "bandstand.body_memory"
"""Where a POST request's scope has the `BodyBytes` that it may hold."""
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
    """Records the size of one request's body and the status of its answer."""

    def __init__(self, send: Send, identity: str) -> None:
        self._send = send
        self._identity = identity
        self.body: RequestBody | None = None
        self.status = _CLIENT_CLOSED_REQUEST

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID_HEADER] = self._identity
        await self._send(message)


def client_of_request(scope: Scope) -> str:
    """Return the client that a request comes from."""
    client: str = scope.get(CLIENT, "")
    return client


def _stated_length(scope: Scope) -> int | None:
    """Return the length that a request states for its body, or None."""
    stated = Headers(scope=scope).get("content-length", "")
    return int(stated) if stated.isdecimal() else None


class Edge:
    """ASGI middleware around the FastAPI app.

    Args:
        app: the application that answers.
        admission: limits the POST requests.
        limits: those of their bodies. No other request's body is read.
    """

    def __init__(self, app: ASGIApp, admission: Admission, limits: BodyLimits) -> None:
        self._app = app
        self._admission = admission
        self._limits = limits

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
        exchange = _Exchange(send, identity)
        try:
            await self._answer(scope, receive, exchange)
        finally:
            self._record(scope, exchange, perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        if scope["method"] != "POST":
            await self._app(scope, receive, exchange.send)
            return
        stated = _stated_length(scope)
        try:
            if stated is not None and stated > self._limits.max_bytes:
                raise too_large(self._limits.max_bytes)
            with self._admission.entered(client_of_request(scope)) as memory:
                scope[BODY_MEMORY] = memory
                exchange.body = body = RequestBody(receive, stated, self._limits, memory)
                async with body.watched():
                    await self._app(scope, body.receive, exchange.send)
        except BandstandError as error:
            await error_response(error)(scope, receive, exchange.send)

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
                    "bytes_in": 0 if exchange.body is None else exchange.body.received_bytes,
                    "client": (scope.get("client") or ("-",))[0],
                },
            )
