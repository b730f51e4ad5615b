"""Uses of private parts of BentoML and circus; no other module uses them.

Each use is a seam. Its docstring names the private part that it relies on, and the reason why no
public part is enough. `pyproject.toml` pins the versions that it was written for, and
`tests/contract/test_bentoml_seams.py` tests each seam: after an upgrade, these tests show what else
must change.
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
"""The errors of a call whose worker dies before it has sent the whole answer.

Relies on BentoML calling workers with aiohttp and not catching its errors. BentoML documents no
errors for this.
"""

FAILED_CALLS = (aiohttp.ClientError, ConnectionError, TimeoutError, BentoMLException)
"""The errors of a call of a worker; they include `LOST_ANSWERS`."""


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

    Relies on the command's entry point in `bentoml_cli`: the changes below apply to this process
    only, and `bentoml.serve` neither blocks nor handles the signals.

    Args:
        target: the service, as `module:name`.
        folder: where that module is imported from.
        host: address to listen on.
        port: port to listen on.
        drain_seconds: how long a worker may take to finish its requests after SIGTERM.
        check_seconds: how often to look for dead workers.
        metrics_folder: folder in which the processes share their metrics; its content is deleted.
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
    """Make the supervisor check its workers every `check_seconds`, and always replace dead ones.

    Relies on BentoML making circus' arbiter with `create_standalone_arbiter`, looked up when the
    server starts, and on circus' `Watcher.respawn`. BentoML's values (a check every ten seconds, no
    replacement in containers) are constants in its code; no option or setting changes them.
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
    """Make a stop wait until the arbiter has finished its current command.

    Relies on signals calling `stop`, and on `_exclusive_running_command` and `_stopping`. If a
    SIGTERM arrives while circus starts or replaces a process, circus refuses it as a conflict and
    reports nothing: the server keeps running, without the sockets, which BentoML has removed.
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
    """Make the processes share their metrics in this folder.

    Relies on the container's `prometheus_multiproc_dir`. By default all servers of one user share
    a folder below `BENTOML_HOME`, and each deletes its content when it starts. The only public way
    to change the folder is another `BENTOML_HOME`, which has other models and bentos.
    """
    BentoMLContainer.prometheus_multiproc_dir.set(str(folder))
    try:
        yield
    finally:
        BentoMLContainer.prometheus_multiproc_dir.reset()


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
