"""Common parts of the preprocessor and the runner processes: a block in, a block out."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import bentoml

from bandstand.errors import BandstandError, DeadlineExceededError
from bandstand.runners.base import Array
from bandstand.runners.wire import pack, unpack
from bandstand.settings import Settings
from bandstand.telemetry import configure_logs, request_id
from bandstand_bentos.drain import outlive_gateway
from bandstand_bentos.orphans import end_with_supervisor
from bandstand_bentos.server_folder import ServerFolder
from bandstand_bentos.wiring import GATEWAY

logger = logging.getLogger("bandstand.worker")

Arrays = dict[str, Array]
Metadata = dict[str, Any]
Work = Callable[[Arrays, Metadata], Awaitable[tuple[Arrays, Metadata]]]


class ClientDisconnectedError(DeadlineExceededError):
    """The client disconnected before the work began."""

    error_type = "client_gone"


async def answer(block: bytes, work: Work) -> bytes:
    """Run `work` on an unpacked block; an error is sent as `error` in the answer's metadata."""
    try:
        arrays, metadata = unpack(block)
        request_id.set(metadata.get("request_id", "-"))
        return pack(*await work(arrays, metadata))
    except BandstandError as error:
        return pack({}, {"error": error.to_fields()})
    except Exception:
        logger.exception("a worker failed")
        return pack({}, {"error": BandstandError("internal error").to_fields()})


def connection_check(context: bentoml.Context) -> Callable[[], Awaitable[bool]]:
    """Return a function that returns whether the client of this request is still connected."""
    request = context.request

    async def client_waits() -> bool:
        return not await request.is_disconnected()

    return client_waits


def start_worker(settings: Settings) -> None:
    """Set up a worker process; call it at the begin of its start-up hook."""
    configure_logs(settings)
    folder = ServerFolder.of_this_process()
    outlive_gateway(GATEWAY, folder)
    if folder is not None:
        end_with_supervisor(folder)
