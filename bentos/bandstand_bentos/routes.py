"""The HTTP routes, as a FastAPI app: one OpenAPI page, one form for every refusal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from bandstand import __version__
from bandstand.errors import (
    BandstandError,
    DeadlineExceededError,
    MalformedRequestError,
    MethodNotAllowedError,
    RouteNotFoundError,
)
from bandstand.operations.served import SERVED, ServedOperation
from bandstand.telemetry import client
from bandstand_bentos.docs_page import add_docs_page
from bandstand_bentos.edge import client_of_request, error_response
from bandstand_bentos.intake import read_intake
from bandstand_bentos.model_routes import add_model_routes
from bandstand_bentos.operation_schema import operation_schema
from bandstand_bentos.replies import REFUSALS, json_response
from bandstand_bentos.surface import Surface
from bandstand_client.contract.shared import Health

_DESCRIPTION = """\
Genre, instruments and audio features of recordings: wav, flac, mp3, ogg, opus, m4a or webm,
recognised by content. Every refusal is `{"error", "error_type", "request_id"}` with a documented
status.
"""


class ClientDisconnected(Exception):  # noqa: N818 - not an error
    """The client disconnected."""


async def _until_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _while_connected(request: Request, work: Awaitable[object]) -> object:
    """Await `work`; cancel it when the client disconnects."""
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_until_disconnect(request))
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnected
    finally:
        task.cancel()
        disconnect.cancel()


async def _answer(request: Request, operation: ServedOperation) -> Response:
    """Read the audio, wait for a turn and run the operation, within one deadline."""
    surface: Surface = request.app.state.surface
    deadline = surface.settings.request_deadline_seconds
    try:
        async with asyncio.timeout(deadline):
            intake = await read_intake(
                request,
                surface.fetch_limits,
                operation.declared,
                surface.settings,
            )

            async def in_turn() -> object:
                client.set(client_of_request(request.scope))
                model = operation.model and operation.model(surface.resources, intake.options)
                async with surface.admission.turn(client.get(), model, operation.turns):
                    return await operation.run(surface.resources, intake.audio, intake.options)

            return json_response(await _while_connected(request, in_turn()))
    except TimeoutError:
        raise DeadlineExceededError(f"not finished within {deadline:g} s") from None


def create_app(*, audio_url: bool = True) -> FastAPI:
    """Return the gateway's app; `app.state.surface` is set when its service starts.

    Args:
        audio_url: whether its description offers to fetch audio by URL.
    """
    app = FastAPI(
        title="Bandstand",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,  # docs_page.py has one that loads nothing from other hosts
        redoc_url=None,
        # BentoML's middleware opens the request's span, if spans are exported.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    for operation in SERVED:
        _add_operation(app, operation, operation_schema(operation.declared, audio_url=audio_url))
    add_model_routes(app)
    add_docs_page(app)
    _add_health(app)
    _add_errors(app)
    return app


def _add_operation(app: FastAPI, operation: ServedOperation, schema: dict[str, Any]) -> None:
    declared = operation.declared

    async def route(request: Request) -> Response:
        return await _answer(request, operation)

    app.add_api_route(
        declared.path,
        route,
        methods=["POST"],
        name=declared.name,
        response_model=declared.answer,
        responses=REFUSALS,
        openapi_extra=schema,
        summary=declared.summary.removesuffix("."),
    )


def _add_health(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return RedirectResponse("/docs")

    @app.get("/livez", response_model=Health, summary="Is the process alive?")
    async def livez() -> Response:
        return json_response(Health(status="ok", version=__version__))

    not_ready: dict[int | str, dict[str, Any]] = {
        503: {"model": Health, "description": "A part does not answer."}
    }

    @app.get("/readyz", response_model=Health, responses=not_ready, summary="Can it answer?")
    @app.get("/health", response_model=Health, responses=not_ready, summary="As /readyz")
    async def readyz(request: Request) -> Response:
        health = await request.app.state.surface.health()
        return json_response(health, 200 if health.status == "ok" else 503)

    @app.get(
        "/metrics",
        summary="Prometheus metrics of all processes",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        def collect() -> bytes:
            if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
                return generate_latest(REGISTRY)
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return generate_latest(registry)

        return Response(await asyncio.to_thread(collect), media_type=CONTENT_TYPE_LATEST)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(BandstandError)
    async def typed(_request: Request, error: BandstandError) -> Response:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return error_response(MalformedRequestError(f"{where}: {first['msg']}"))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:  # noqa: PLR2004
            return error_response(RouteNotFoundError(f"there is no {request.url.path}"))
        if error.status_code == 405:  # noqa: PLR2004
            response = error_response(
                MethodNotAllowedError(f"{request.url.path} does not answer {request.method}")
            )
            response.headers.update(error.headers or {})
            return response
        return error_response(MalformedRequestError(str(error.detail)))

    @app.exception_handler(ClientDisconnected)
    @app.exception_handler(ClientDisconnect)  # while its body was read
    async def disconnected(_request: Request, _error: Exception) -> Response:
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def unexpected(_request: Request, _error: Exception) -> Response:
        return error_response(BandstandError("an internal error; see the server's log"))
