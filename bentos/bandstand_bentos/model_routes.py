"""The routes of models: list, proof, and loading and unloading by the administrator."""

from __future__ import annotations

import asyncio
import hmac
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bandstand.errors import MalformedRequestError, ModelControlOffError, UnauthorizedError
from bandstand.pipelines.listing import list_models, summary
from bandstand_bentos.intake import read_json_body
from bandstand_bentos.replies import REFUSALS, json_response
from bandstand_bentos.surface import Surface
from bandstand_client.contract.models import ModelList, ModelMetrics, ModelSummary
from bandstand_client.contract.shared import Refusal

_CONTROL_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: REFUSALS[400],
    401: {"model": Refusal, "description": "There is no key, or it is not the administrator's."},
    403: {"model": Refusal, "description": "Model control is off: no key is set."},
    404: REFUSALS[404],
    409: {"model": Refusal, "description": "That version is not installed."},
    413: {"model": Refusal, "description": "The JSON body has too many bytes."},
    500: {"model": Refusal, "description": "The model's file does not match its card."},
    503: REFUSALS[503],
}
_LOAD_BODY = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"version": {"type": "integer", "minimum": 1}},
                }
            }
        }
    }
}


async def _no_query(request: Request) -> None:
    """Refuse query parameters: these routes have none, and ignoring one would mislead.

    Raises:
        MalformedRequestError: there are some.
    """
    if request.query_params:
        unknown = ", ".join(request.query_params)
        raise MalformedRequestError(f"{unknown}: {request.url.path} has no query parameters")


_NO_QUERY = [Depends(_no_query)]


class LoadOptions(BaseModel):
    """The options of loading a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int | None = Field(None, ge=1)
    """The version to serve from now on; None: the newest."""


def add_model_routes(app: FastAPI) -> None:
    """Add all routes under `/models`."""
    _add_listing(app)
    _add_control(app)


def _add_listing(app: FastAPI) -> None:
    @app.get(
        "/models",
        response_model=ModelList,
        responses={400: REFUSALS[400]},
        summary="Every model, installed or not",
        dependencies=_NO_QUERY,
    )
    async def models(request: Request) -> Response:
        surface: Surface = request.app.state.surface
        return json_response(
            await asyncio.to_thread(list_models, surface.resources.catalogue, surface.pool)
        )

    @app.get(
        "/models/{name}/metrics",
        response_model=ModelMetrics,
        responses={400: REFUSALS[400], 404: REFUSALS[404]},
        summary="A model's measured quality and its export's proof",
        dependencies=_NO_QUERY,
    )
    async def model_metrics(request: Request, name: str) -> Response:
        surface: Surface = request.app.state.surface
        catalogue = surface.resources.catalogue
        listed = summary(catalogue, name, surface.pool)
        version, repository = listed.version, catalogue.repository
        report = None if version is None else repository.report(name, version)
        return json_response(
            ModelMetrics(name=name, version=version, quality=listed.quality, report=report)
        )


def _add_control(app: FastAPI) -> None:
    @app.post(
        "/models/{name}/load",
        response_model=ModelSummary,
        responses=_CONTROL_REFUSALS,
        openapi_extra=_LOAD_BODY,
        summary="Serve a model, or another version of it; requests in flight are finished",
        dependencies=_NO_QUERY,
    )
    async def load(request: Request, name: str) -> Response:
        surface = _for_administrators(request)
        options = _load_options(await read_json_body(request, surface.settings.max_json_bytes))
        await surface.pool.load(name, options.version)
        return _summary(surface, name)

    @app.post(
        "/models/{name}/unload",
        response_model=ModelSummary,
        responses=_CONTROL_REFUSALS,
        summary="Stop serving a model, after the requests that use it are answered",
        dependencies=_NO_QUERY,
    )
    async def unload(request: Request, name: str) -> Response:
        surface = _for_administrators(request)
        await surface.pool.unload(name)
        return _summary(surface, name)


def _summary(surface: Surface, name: str) -> Response:
    return json_response(summary(surface.resources.catalogue, name, surface.pool))


def _load_options(body: bytes) -> LoadOptions:
    try:
        return LoadOptions.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise MalformedRequestError(f"the JSON body: {first['msg']}") from None


def _for_administrators(request: Request) -> Surface:
    """Return the surface if the request has the administrator's key.

    Raises:
        ModelControlOffError: no such key is set.
        UnauthorizedError: the request has none, or another one.
    """
    surface: Surface = request.app.state.surface
    key = surface.settings.admin_key
    if key is None:
        raise ModelControlOffError(
            "models cannot be changed through this server: BANDSTAND_ADMIN_KEY is not set"
        )
    given = request.headers.get("authorization", "").encode()
    if not hmac.compare_digest(given, f"Bearer {key.get_secret_value()}".encode()):
        raise UnauthorizedError("this needs the administrator's key as a bearer token")
    return surface
