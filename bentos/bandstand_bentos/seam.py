"""Where Bandstand reaches into BentoML and circus; no other module does.

Each seam says what of theirs it relies on, and why nothing public will do. `pyproject.toml` pins
the versions that this was written for, and `tests/contract/test_bentoml_seams.py` has a test of
each seam: an upgrade changes the pins, and these tests say what else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
from _bentoml_sdk.io_models import IORootModel
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml.exceptions import BentoMLException
from opentelemetry.trace import TracerProvider
from opentelemetry.util.http import ExcludeList
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_STOP_POLL_SECONDS = 0.05

LOST_ANSWERS = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
"""What a call of a worker that dies raises: there is no answer, or only the beginning of one.

Relies on BentoML calling workers with aiohttp and letting its errors through. BentoML documents no
errors of its own for this.
"""

FAILED_CALLS = (aiohttp.ClientError, ConnectionError, TimeoutError, BentoMLException)
"""What any call of a worker may raise; `LOST_ANSWERS` are among them."""


def supervise(
    target: str,
    folder: Path,
    *,
    host: str,
    port: int,
    drain_seconds: int,
    check_seconds: float,
    metrics_folder: Path,
) -> None:
    """Run `bentoml serve` in this process until SIGTERM or SIGINT.

    Relies on the command's entry point in `bentoml_cli`: what is changed below holds in this
    process only, and `bentoml.serve` neither blocks nor takes the signals.

    Args:
        target: the service, as `module:name`.
        folder: where that module is imported from.
        host: address to listen on.
        port: port to listen on.
        drain_seconds: how long a stopping worker may take for what it has begun.
        check_seconds: how often to look for dead workers.
        metrics_folder: where the processes share their metrics; it is emptied.
    """
    from bentoml_cli.cli import cli

    options = {
        "--working-dir": folder,
        "--host": host,
        "--port": port,
        "--timeout-graceful-shutdown": drain_seconds,
    }
    arguments = [str(part) for pair in options.items() for part in pair]
    with _supervisor_checks(check_seconds), _own_metrics(metrics_folder):
        cli.main(["serve", target, *arguments], standalone_mode=False)


@contextmanager
def _supervisor_checks(check_seconds: float) -> Iterator[None]:
    """Have dead workers noticed soon, and replaced always.

    Relies on BentoML making circus' arbiter with `create_standalone_arbiter`, looked up when the
    server starts, and on circus' `Watcher.respawn`. BentoML's own values, a look every ten seconds
    and no replacement in containers, stand in its code; no option and no setting changes them.
    """
    from bentoml._internal.utils import circus

    create = circus.create_standalone_arbiter

    def create_checked(watchers: list[Any], **options: Any) -> Any:
        for watcher in watchers:
            watcher.respawn = True
        arbiter = create(watchers, **{**options, "check_delay": check_seconds})
        _delay_stops(arbiter)
        return arbiter

    setattr(circus, "create_standalone_arbiter", create_checked)  # noqa: B010 - mypy knows no module
    try:
        yield
    finally:
        setattr(circus, "create_standalone_arbiter", create)  # noqa: B010


def _delay_stops(arbiter: Any) -> None:
    """Have a stop wait while the arbiter is at something else.

    Relies on a signal ending in `stop`, and on `_exclusive_running_command` and `_stopping`. A
    SIGTERM that comes while circus starts or replaces a process is refused as a conflict, which
    nobody hears of: the server goes on, without the sockets that BentoML has removed by then.
    """
    stop = arbiter.stop

    def stop_when_free() -> Any:
        if arbiter._stopping:
            return None
        if arbiter._exclusive_running_command is None:
            return stop()
        arbiter.loop.call_later(_STOP_POLL_SECONDS, stop_when_free)
        return None

    arbiter.stop = stop_when_free


@contextmanager
def _own_metrics(folder: Path) -> Iterator[None]:
    """Have the processes share their metrics in this folder.

    Relies on the container's `prometheus_multiproc_dir`. By default all servers of one user share
    a folder below `BENTOML_HOME`, and each empties it when it starts; the only public way to
    another is another `BENTOML_HOME`, with other models and bentos.
    """
    BentoMLContainer.prometheus_multiproc_dir.set(str(folder))
    try:
        yield
    finally:
        BentoMLContainer.prometheus_multiproc_dir.reset()


def use_tracer_provider(provider: TracerProvider, *, spans_of_requests: bool) -> None:
    """Have BentoML's tracing middleware use our provider, or open no spans at all.

    Relies on the container's `tracer_provider` and `tracing_excluded_urls`, which BentoML reads
    when it builds its middleware: call it when a service's module is imported. BentoML's settings
    can only describe a provider of its own.
    """
    if not spans_of_requests:
        BentoMLContainer.tracing_excluded_urls.set(ExcludeList([".*"]))
    BentoMLContainer.tracer_provider.set(provider)


def service_of(command: list[str]) -> str | None:
    """Return which service a process runs, by its command line; None: it is none of BentoML's.

    Relies on the option `--service-name` with which the supervisor starts each process. The
    supervisor tells nobody which processes it has.
    """
    try:
        return command[command.index("--service-name") + 1]
    except (ValueError, IndexError):
        return None


def supervised_services() -> tuple[str, ...] | None:
    """Return the services that have processes; None in the supervisor.

    Relies on the environment variable in which the supervisor hands the workers' addresses to all
    processes, also to one that it starts again. Nothing public names them.
    """
    addresses = os.environ.get("BENTOML_RUNNER_MAP")
    return None if addresses is None else tuple(json.loads(addresses))


def worker_call(worker: Any, api: str) -> Callable[[bytes], Awaitable[bytes]]:
    """Return the call of an API of a service that is depended on.

    Relies on `call` of the client behind `to_async`, which takes the API's name: BentoML documents
    only attributes of that name.
    """
    client = worker.to_async

    async def call(block: bytes) -> bytes:
        answer: bytes = await client.call(api, block)
        return answer

    return call


def worker_address(worker: Any) -> str:
    """Return where a service that is depended on listens.

    Relies on `url` of the client behind `to_async`; the address is not documented to be had.
    """
    address: str = worker.to_async.url
    return address


class Block(IORootModel[bytes]):  # type: ignore[misc]
    """The wire's block as an API's input and output: the body, as it is.

    Relies on `IORootModel`, on its two methods here, and on `__root_input__`. BentoML's own `bytes`
    works out a JSON schema at every call, which costs more than the call.
    """

    __root_input__ = True
    media_type: ClassVar[str | None] = "application/octet-stream"

    @classmethod
    async def from_http_request(cls, request: Request, _serde: object) -> Block:
        """Take a request's body."""
        return cls(await request.body())

    @classmethod
    async def to_http_response(cls, obj: bytes, _serde: object) -> Response:
        """Make a body of an answer."""
        return Response(obj, media_type=cls.media_type)


class RefusePickles:
    """Middleware: no worker reads a pickle, which could run any code.

    Relies on BentoML telling pickles by a media type with that word in it. It reads them from
    anyone who reaches a worker's port, and no setting turns that off.
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
    """Middleware: every HTTP request goes to our app, anything else (start and stop) to BentoML's.

    Relies on a service's middleware standing before BentoML's routes. Those answer some paths
    (`/livez`, `/metrics`, its UI) before a mounted app could, and paths that no one has with a page
    of their own; only some of them can be moved.
    """

    def __init__(self, app: ASGIApp, ours: ASGIApp) -> None:
        self._app = app
        self._ours = ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        await (self._ours if scope["type"] == "http" else self._app)(scope, receive, send)
