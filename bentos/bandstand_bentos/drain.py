"""On SIGTERM a worker runs until the gateway has ended, so that the gateway can drain.

`bandstand serve` signals the workers only then. With plain `bentoml serve`, the supervisor signals
all processes at once: the gateway accepts no new requests and finishes those in flight; they would
fail if the workers ended first. There is no limit of time here: the supervisor kills a gateway
that takes too long, and the workers after it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import psutil

from bandstand_bentos.orphans import remove_folders_of_dead
from bandstand_bentos.seam import service_of
from bandstand_bentos.server_folder import GATEWAY_LOCK, ServerFolder

_POLL_SECONDS = 0.1
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _gateway_is_up(gateway: str, folder: ServerFolder | None) -> bool:
    """Return whether the gateway of this server still runs."""
    return _sibling_runs(gateway) if folder is None else folder.is_held(GATEWAY_LOCK)


def _sibling_runs(gateway: str) -> bool:
    try:
        siblings = psutil.Process(os.getppid()).children()
    except psutil.Error:
        return False
    for sibling in siblings:
        try:
            is_up = sibling.status() != psutil.STATUS_ZOMBIE
            if is_up and service_of(sibling.cmdline()) == gateway:
                return True
        except psutil.Error:
            continue
    return False


def outlive_gateway(gateway: str, folder: ServerFolder | None) -> None:
    """Delay this worker's shutdown until the gateway has ended.

    Call it inside the running event loop, after the server has installed its signal handlers.

    Args:
        gateway: the name of its service.
        folder: the server's; None: there is no `bandstand serve`.
    """
    loop = asyncio.get_running_loop()
    servers: dict[signal.Signals, Any] = {s: signal.getsignal(s) for s in _SIGNALS}
    began: list[int] = []

    def poll(stop: Callable[[], None]) -> None:
        if _gateway_is_up(gateway, folder):
            loop.call_later(_POLL_SECONDS, poll, stop)
            return
        if folder is not None:
            remove_folders_of_dead(folder)
        stop()

    def delayed(number: int, frame: FrameType | None) -> None:
        handler = servers[signal.Signals(number)]
        if began:
            return
        began.append(number)
        loop.call_soon_threadsafe(poll, lambda: handler(number, frame))

    for number in _SIGNALS:
        if callable(servers[number]):
            signal.signal(number, delayed)
