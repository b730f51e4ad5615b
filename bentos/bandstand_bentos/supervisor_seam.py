"""Uses of private parts of BentoML and circus in the supervisor; see `seam.py` for the others.

BentoML's supervisor is circus' arbiter. It starts one watcher for each service; a watcher starts
and replaces the processes of its service.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bentoml._internal.configuration.containers import BentoMLContainer

from bandstand_bentos.respawn import RespawnPauses
from bandstand_bentos.server_folder import ServerFolder

_STOP_POLL_SECONDS = 0.05
_GATEWAY_WATCHER = "service"
"""BentoML's name of the watcher of the service that it serves; dependencies have other names."""
_EXIT_SECONDS = 15.0
"""How long a process may take to end, a gateway after its drain, before it is killed."""


logger = logging.getLogger("bandstand.supervisor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """How the supervisor treats its processes.

    Attributes:
        drain_seconds: how long the gateway may take to finish its requests after SIGTERM.
        check_seconds: how often to look for dead processes.
        folder: the server's folder, which only this user can enter.
    """

    drain_seconds: int
    check_seconds: float
    folder: ServerFolder


def supervise(target: str, folder: Path, *, host: str, port: int, how: Supervision) -> None:
    """Run `bentoml serve` in this process until SIGTERM or SIGINT.

    Relies on the command's entry point in `bentoml_cli`: the changes below apply to this process
    only, and `bentoml.serve` neither blocks nor handles the signals.

    Args:
        target: the service, as `module:name`.
        folder: where that module is imported from.
        host: address to listen on.
        port: port to listen on.
        how: how processes are checked, stopped and replaced.
    """
    from bentoml_cli.cli import cli

    options = {
        "--working-dir": folder,
        "--host": host,
        "--port": port,
        "--timeout-graceful-shutdown": how.drain_seconds,
    }
    arguments = [str(part) for pair in options.items() for part in pair]
    with _changed_arbiter(how), _own_metrics(how.folder.metrics):
        cli.main(["serve", target, *arguments], standalone_mode=False)


@contextmanager
def _changed_arbiter(how: Supervision) -> Iterator[None]:
    """Change the arbiter as `how` says, and always replace dead processes.

    Relies on BentoML making the arbiter with `create_standalone_arbiter`, looked up when the server
    starts, and on circus' `Watcher.respawn` and `graceful_timeout`. BentoML's values (a check every
    ten seconds, no replacement in containers, a day until a process is killed) are constants in its
    code; no option or setting changes them.
    """
    from bentoml._internal.utils import circus

    create = circus.create_standalone_arbiter

    with ExitStack() as after_the_end:

        def create_changed(watchers: list[Any], **options: Any) -> Any:
            arbiter = create(watchers, **{**options, "check_delay": how.check_seconds})
            _listen_privately(arbiter, how.folder.path)
            for watcher in watchers:
                watcher.respawn = True
                watcher.graceful_timeout = _EXIT_SECONDS
                if watcher.name == _GATEWAY_WATCHER:
                    watcher.graceful_timeout += how.drain_seconds
                _pause_between_starts(watcher, how.folder)
            _run_without_some(arbiter)
            _stop_gateway_first(arbiter)
            _change_stop(arbiter, after_the_end)
            return arbiter

        setattr(circus, "create_standalone_arbiter", create_changed)  # noqa: B010 - for mypy
        try:
            yield
        finally:
            setattr(circus, "create_standalone_arbiter", create)  # noqa: B010


def _listen_privately(arbiter: Any, folder: Path) -> None:
    """Move the arbiter's control sockets into a folder that only this user can enter.

    Relies on the arbiter binding `ctrl.endpoint` and `pubsub_endpoint` only when it starts. BentoML
    gives it two TCP ports of 127.0.0.1: every user of the host could start programs as this user
    through them. They cannot be turned off.
    """
    arbiter.endpoint = arbiter.ctrl.endpoint = f"ipc://{folder / 'control'}"
    arbiter.pubsub_endpoint = f"ipc://{folder / 'events'}"


def _pause_between_starts(watcher: Any, folder: ServerFolder) -> None:
    """Make a watcher wait between the starts of processes that end at once; see `respawn.py`.

    Relies on a watcher calling `spawn_processes` when one is missing, and on `spawn_process` and
    `processes`. circus has no pauses, and stops a watcher for good when the system has refused to
    start a process five times.
    """
    pauses, running = RespawnPauses(), set[int]()

    async def spawn_processes() -> None:
        for process in running - watcher.processes.keys():
            running.discard(process)
            ready_seconds = folder.note_end(process)
            pause = pauses.ended(ready_seconds, time.monotonic())
            logger.warning(
                "process %d of %s has ended; it was ready for %.0f s; the next starts in %g s",
                process,
                watcher.name,
                ready_seconds,
                pause,
            )
        while len(watcher) < watcher.numprocesses and pauses.may_start(time.monotonic()):
            if watcher.spawn_process() is False:
                pauses.ended(0.0, time.monotonic())
        running.update(watcher.processes)

    watcher.spawn_processes = spawn_processes


def _run_without_some(arbiter: Any) -> None:
    """Make the arbiter run on while a watcher has no process, because it waits to start one.

    Relies on the arbiter's controller calling `manage_watchers` regularly, and on what that calls.
    circus' own ends the whole server when a watcher has no process.
    """

    async def manage_watchers() -> None:
        if arbiter._stopping or arbiter._exclusive_running_command is not None:
            return
        arbiter._exclusive_running_command = "manage_watchers"
        try:
            arbiter.reap_processes()
            for watcher in arbiter.iter_watchers():
                await (watcher._start() if watcher.is_stopped() else watcher.manage_processes())
        finally:
            arbiter._exclusive_running_command = None

    arbiter.manage_watchers = manage_watchers


def _stop_gateway_first(arbiter: Any) -> None:
    """Signal the workers only after the gateway has ended, because it still calls them.

    Relies on a stop calling `_stop_watchers`, and on `Watcher._stop`. circus can start watchers in
    an order, but signals all of them at once.
    """
    stop_watchers = arbiter._stop_watchers

    async def gateway_first(close_output_streams: bool = False, **options: Any) -> None:
        for watcher in arbiter.watchers:
            if watcher.name == _GATEWAY_WATCHER:
                await watcher._stop(close_output_streams)
        await stop_watchers(close_output_streams, **options)

    arbiter._stop_watchers = gateway_first


def _change_stop(arbiter: Any, after_the_end: ExitStack) -> None:
    """Make a stop wait for the arbiter's current command, and keep the sockets until the end.

    Relies on signals calling `stop`, on `_exclusive_running_command` and `_stopping`, and on
    BentoML's `stop` closing `exit_stack`. If a SIGTERM arrives while circus starts or replaces a
    process, circus refuses it as a conflict and reports nothing. And BentoML's `stop` begins by
    removing the workers' sockets, through which the gateway still has to call them: a connection
    that is closed for whatever reason cannot be opened again.
    """
    stop = arbiter.stop

    def stop_when_free() -> Any:
        if arbiter._stopping:
            return None
        if arbiter._exclusive_running_command is None:
            after_the_end.push(arbiter.exit_stack.pop_all())
            return stop()
        arbiter.loop.call_later(_STOP_POLL_SECONDS, stop_when_free)
        return None

    arbiter.stop = stop_when_free


@contextmanager
def _own_metrics(folder: Path) -> Iterator[None]:
    """Make the processes share their metrics in this folder; its content is deleted.

    Relies on the container's `prometheus_multiproc_dir`. By default all servers of one user share
    a folder below `BENTOML_HOME`, and each deletes its content when it starts. The only public way
    to change the folder is another `BENTOML_HOME`, which has other models and bentos.
    """
    BentoMLContainer.prometheus_multiproc_dir.set(str(folder))
    try:
        yield
    finally:
        BentoMLContainer.prometheus_multiproc_dir.reset()
