"""The runner processes: one that many models share, and one for each model that needs its own."""

from __future__ import annotations

from collections.abc import Mapping

import bentoml

from bandstand.errors import MalformedRequestError, ModelNotInstalledError
from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.runners.loaded import LoadedModel
from bandstand.runners.local_pool import LocalPool
from bandstand.settings import get_settings
from bandstand.telemetry import BATCH_QUEUE_SECONDS, BATCH_ROWS, INFERENCE_SECONDS
from bandstand_bentos.seam import Block, RefusePickles, supervised_services
from bandstand_bentos.wiring import service_config
from bandstand_bentos.worker import (
    Arrays,
    Metadata,
    answer,
    connection_check,
    start_worker,
)

SHARED_RUNNER = "shared_runner"
_OWN = "runner_"

_SETTINGS = get_settings()


def runner_name(model: str) -> str:
    """Return the BentoML service name of a runner process that one model has for itself."""
    return f"{_OWN}{model}"


def own_runners(usable: Mapping[str, Card]) -> tuple[str, ...]:
    """Return the models that have a runner process of their own, for as long as the server runs.

    The supervisor decides it when it starts. A process that is replaced later goes by the processes
    that there are, since the repository may have changed.

    Args:
        usable: the cards of the models that can be served, by name.
    """
    services = supervised_services()
    if services is None:
        return tuple(name for name, card in usable.items() if card.runner == "own")
    return tuple(name.removeprefix(_OWN) for name in services if name.startswith(_OWN))


def _observe(model: str, rows: int, seconds: float, queued_seconds: float) -> None:
    BATCH_ROWS.labels(model).observe(rows)
    INFERENCE_SECONDS.labels(model).observe(seconds)
    BATCH_QUEUE_SECONDS.labels(model).observe(queued_seconds)


class _ModelRunner:
    """Answers batches of windows with any number of models; callers share a model's batches."""

    own: str | None

    def __init__(self) -> None:
        self._catalogue = Catalogue.from_settings(_SETTINGS)
        self._pool = LocalPool(_SETTINGS, self._catalogue, _observe)

    @bentoml.on_startup
    async def start(self) -> None:
        """Set up the process, and load what it is to serve; each has answered once then."""
        start_worker(_SETTINGS)
        await self._pool.load_installed(self._models_to_load())

    @bentoml.on_shutdown
    async def shut_down(self) -> None:
        """Finish what was begun and let the models go."""
        await self._pool.aclose()

    def _models_to_load(self) -> list[str]:
        """Return the models that this process serves when it starts."""
        usable = self._catalogue.usable()
        if self.own is not None:
            return [name for name in (self.own,) if name in usable]
        return [name for name in usable if name not in own_runners(usable)]

    def _serving(self, name: str) -> LoadedModel:
        if name in self._pool.served:
            return self._pool.served[name]
        raise self._pool.failures.get(name) or ModelNotInstalledError(f"{name} was unloaded")

    @bentoml.api(input_spec=Block, output_spec=Block)
    async def infer(self, block: bytes, /, ctx: bentoml.Context) -> bytes:
        """Answer one batch of the model of fact `model`.

        Args:
            block: an array per model input, batch axis first.
            ctx: the request, to notice a caller that hung up.
        """
        client_waits = connection_check(ctx)

        async def work(arrays: Arrays, metadata: Metadata) -> tuple[Arrays, Metadata]:
            model = self._serving(metadata["model"])
            outputs = await model.infer(arrays, client_waits)
            return outputs, _version_and_runtime(model)

        return await answer(block, work)

    @bentoml.api(input_spec=Block, output_spec=Block)
    async def control(self, block: bytes, /) -> bytes:
        """Do what fact `command` says.

        `load`: serve fact `version` (None: the newest) of fact `model`; return when what was begun
        with the version before is answered. `unload`: serve fact `model` no more. `list`: what is
        served, and what could not be loaded and why.
        """

        async def work(_arrays: Arrays, metadata: Metadata) -> tuple[Arrays, Metadata]:
            return {}, await self._control(metadata)

        return await answer(block, work)

    async def _control(self, metadata: Metadata) -> Metadata:
        match metadata:
            case {"command": "load", "model": name, "version": version}:
                await self._pool.load(name, version)
                return _version_and_runtime(self._serving(name))
            case {"command": "unload", "model": name}:
                await self._pool.unload(name)
                return {}
            case {"command": "list"}:
                served, failures = self._pool.served, self._pool.failures
                return {
                    "served": {name: _version_and_runtime(model) for name, model in served.items()},
                    "failures": {name: error.to_fields() for name, error in failures.items()},
                }
        raise MalformedRequestError("no command of a runner process")


def _version_and_runtime(model: LoadedModel) -> Metadata:
    return {"version": model.version, "runtime": model.runtime}


def _service(name: str, own: str | None) -> bentoml.Service:
    inner = type(f"Runner_{name}", (_ModelRunner,), {"own": own})
    # One process, so that each model has one batcher.
    service = bentoml.service(inner, name=name, workers=1, **service_config(_SETTINGS))
    service.add_asgi_middleware(RefusePickles)
    return service


def own_runner(model: str) -> bentoml.Service:
    """Make the BentoML service that runs one model."""
    return _service(runner_name(model), model)


def shared_runner() -> bentoml.Service:
    """Make the BentoML service that runs all models which have no runner of their own."""
    return _service(SHARED_RUNNER, None)
