"""What `bandstand serve` starts: each process imports only the service that it runs.

BentoML looks for a process's service among the dependencies of the gateway. The gateway imports
all services and the web framework with them, which takes seconds of work; a worker needs none of
that to start, so that a worker that died is soon replaced.
"""

from __future__ import annotations

import sys

import bentoml

from bandstand_bentos.seam import service_of
from bandstand_bentos.wiring import GATEWAY, PREPROCESSOR


def _of_a_worker(name: str) -> bentoml.Service:
    """Return a service in the gateway's place, with one dependency: the service of this worker."""
    worker: bentoml.Service
    if name == PREPROCESSOR:
        from bandstand_bentos.preprocessor import Preprocessor

        worker = Preprocessor
    else:
        from bandstand_bentos.model_runner import runner_of

        worker = runner_of(name)
    inner = type("WorkerOnly", (), {"worker": bentoml.depends(worker)})
    return bentoml.service(inner, name=GATEWAY)


_NAME = service_of(sys.argv)
if _NAME is None or _NAME == GATEWAY:
    from bandstand_bentos.service import Bandstand
else:
    Bandstand = _of_a_worker(_NAME)

__all__ = ["Bandstand"]
