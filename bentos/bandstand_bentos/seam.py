"""Uses of private parts of BentoML; only this module and `supervisor_seam.py` have any.

Each use is a seam. Its docstring names the private part that it relies on, and the reason why no
public part is enough. `pyproject.toml` pins the versions that it was written for, and
`tests/contract/test_bentoml_seams.py` tests each seam: after an upgrade, these tests show what else
must change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlparse

import aiohttp
from _bentoml_sdk.io_models import IORootModel
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml.exceptions import BentoMLException
from opentelemetry.trace import TracerProvider
from opentelemetry.util.http import ExcludeList
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

LOST_ANSWERS = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
"""The errors of a call whose worker dies before it has sent the whole answer.

Relies on BentoML calling workers with aiohttp and not catching its errors. BentoML documents no
errors for this.
"""

FAILED_CALLS = (aiohttp.ClientError, ConnectionError, TimeoutError, BentoMLException)
"""The errors of a call of a worker; they include `LOST_ANSWERS`."""


def use_tracer_provider(provider: TracerProvider, *, spans_of_requests: bool) -> None:
    """Make BentoML's tracing middleware use our provider, or open no spans.

    Relies on the container's `tracer_provider` and `tracing_excluded_urls`, which BentoML reads
    when it builds its middleware: call it when a service's module is imported. BentoML's settings
    can only configure its own provider.
    """
    if not spans_of_requests:
        BentoMLContainer.tracing_excluded_urls.set(ExcludeList([".*"]))
    BentoMLContainer.tracer_provider.set(provider)


def service_of(command: list[str]) -> str | None:
    """Return the service that a process runs, from its command line; None: not a BentoML process.

    Relies on the option `--service-name` with which the supervisor starts each process. The
    supervisor does not publish the list of its processes.
    """
    try:
        return command[command.index("--service-name") + 1]
    except (ValueError, IndexError):
        return None


def supervised_services() -> tuple[str, ...] | None:
    """Return the services that have processes; None in the supervisor.

    Relies on the environment variable with which the supervisor passes the workers' addresses to
    every process, also to one that it replaces. There is no public list.
    """
    addresses = os.environ.get("BENTOML_RUNNER_MAP")
    return None if addresses is None else tuple(json.loads(addresses))


def sockets_folder() -> Path | None:
    """Return the folder of the workers' Unix sockets; None: they have none.

    Relies on the same variable, and on BentoML making the folder for this server alone.
    """
    for address in json.loads(os.environ.get("BENTOML_RUNNER_MAP", "{}")).values():
        if address.startswith("file:"):
            return Path(unquote(urlparse(address).path)).parent
    return None


def worker_call(worker: Any, api: str) -> Callable[[bytes], Awaitable[bytes]]:
    """Return a function that calls an API of a dependency.

    Relies on `call` of the client behind `to_async`, which takes the API's name. BentoML documents
    only attributes with that name.
    """
    client = worker.to_async

    async def call(block: bytes) -> bytes:
        answer: bytes = await client.call(api, block)
        return answer

    return call


def worker_address(worker: Any) -> str:
    """Return the address of a dependency.

    Relies on `url` of the client behind `to_async`; BentoML documents no access to the address.
    """
    address: str = worker.to_async.url
    return address


class Block(IORootModel[bytes]):  # type: ignore[misc]
    """A block of `bandstand.runners.wire` as an API's input and output: the unchanged body.

    Relies on `IORootModel`, on its two methods here, and on `__root_input__`. With `bytes`,
    BentoML computes a JSON schema at every call, which takes longer than the call.
    """

    __root_input__ = True
    media_type: ClassVar[str | None] = "application/octet-stream"

    @classmethod
    async def from_http_request(cls, request: Request, _serde: object) -> Block:
        """Read the block from a request's body."""
        return cls(await request.body())

    @classmethod
    async def to_http_response(cls, obj: bytes, _serde: object) -> Response:
        """Return a response with the block as its body."""
        return Response(obj, media_type=cls.media_type)


class RefusePickles:
    """Middleware: refuses pickles with 415, because reading one can run any code.

    Relies on the media type of pickles, which contains that word. BentoML reads pickles from every
    client that reaches a worker's port, and no setting turns that off.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "http" and any(
            name == b"content-type" and b"pickle" in value for name, value in scope["headers"]
        ):
            await send({"type": "http.response.start", "status": 415, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, send)


class HttpToOurApp:
    """Middleware: passes HTTP requests to our app, and everything else (start, stop) to BentoML's.

    Relies on a service's middleware running before BentoML's routes. Those would answer some paths
    (`/livez`, `/metrics`, its UI) instead of our app, and unknown paths with BentoML's page; only
    some of these routes can be moved.
    """

    def __init__(self, app: ASGIApp, ours: ASGIApp) -> None:
        self._app = app
        self._ours = ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        await (self._ours if scope["type"] == "http" else self._app)(scope, receive, send)
