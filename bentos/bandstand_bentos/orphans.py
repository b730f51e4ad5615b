"""The processes of a server whose supervisor was killed end by themselves, as on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal

from bandstand_bentos.seam import sockets_folder
from bandstand_bentos.server_folder import SUPERVISOR_LOCK, ServerFolder

_LOOK_SECONDS = 1.0

logger = logging.getLogger("bandstand.worker")


def end_with_supervisor(folder: ServerFolder) -> None:
    """Send this process SIGTERM when the supervisor has ended, so that it drains and ends.

    Call it inside the running event loop, after the server has installed its signal handlers.
    """
    loop = asyncio.get_running_loop()

    def look() -> None:
        if folder.is_held(SUPERVISOR_LOCK):
            loop.call_later(_LOOK_SECONDS, look)
        else:
            logger.warning("the supervisor has ended without a stop: this process ends, too")
            os.kill(os.getpid(), signal.SIGTERM)

    look()


def remove_folders_of_dead(folder: ServerFolder) -> None:
    """Remove the folders that the supervisor would have removed, if it has died.

    A worker does it when the gateway has ended: nothing in them is used any more.
    """
    if folder.is_held(SUPERVISOR_LOCK):
        return
    shutil.rmtree(folder.path, ignore_errors=True)
    sockets = sockets_folder()
    if sockets is not None:
        shutil.rmtree(sockets, ignore_errors=True)
