"""A small service that uses every seam: a door and one worker behind it."""

from __future__ import annotations

import json
import os
import signal

import bentoml
import psutil
from fastapi import FastAPI

from bandstand_bentos.seam import (
    LOST_ANSWERS,
    Block,
    HttpToOurApp,
    RefusePickles,
    sockets_folder,
    supervised_services,
    worker_address,
    worker_call,
)

DOOR, WORKER = "seam_door", "seam_worker"
# BentoML counts in the process's one registry, where each name may stand once.
NO_METRICS = {"metrics": {"enabled": False}}


def _facts() -> dict[str, object]:
    process = psutil.Process()
    return {
        "pid": process.pid,
        "parent": process.ppid(),
        "command": process.cmdline(),
        "metrics": os.environ.get("PROMETHEUS_MULTIPROC_DIR"),
        "services": supervised_services(),
        "sockets": str(sockets_folder()),
    }


class _Worker:
    def __init__(self) -> None:
        self.handled = False

    @bentoml.on_startup
    def start(self) -> None:
        default = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler, None)
        self.handled = signal.getsignal(signal.SIGTERM) not in default

    @bentoml.api(input_spec=Block, output_spec=Block)
    async def mirror(self, block: bytes, /) -> bytes:
        return block[::-1]

    @bentoml.api(input_spec=Block, output_spec=Block)
    async def facts(self, _block: bytes, /) -> bytes:
        return json.dumps({**_facts(), "handled": self.handled}).encode()

    @bentoml.api(input_spec=Block, output_spec=Block)
    async def die(self, _block: bytes, /) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""


Worker = bentoml.service(_Worker, name=WORKER, **NO_METRICS)
Worker.add_asgi_middleware(RefusePickles)
app = FastAPI(docs_url=None, redoc_url=None)


@app.get("/livez")
@app.get("/metrics")
def ours() -> str:
    return "ours"


@app.get("/facts")
async def facts() -> dict[str, object]:
    worker = app.state.worker
    mirrored = await worker_call(worker, "mirror")(bytes(range(256)))
    return {
        "door": _facts(),
        "worker": json.loads(await worker_call(worker, "facts")(b"")),
        "address": worker_address(worker),
        "mirrored": mirrored.hex(),
    }


@app.get("/die")
async def die() -> str:
    try:
        await worker_call(app.state.worker, "die")(b"")
    except LOST_ANSWERS:
        return "lost"
    except Exception as error:
        return f"another error: {error!r}"
    return "no error"


class _Door:
    worker = bentoml.depends(Worker)

    @bentoml.on_startup
    def start(self) -> None:
        app.state.worker = self.worker


Door = bentoml.service(bentoml.asgi_app(app, path="/")(_Door), name=DOOR, **NO_METRICS)
Door.add_asgi_middleware(HttpToOurApp, ours=app)
