"""The runner processes: one that the light models share, and one for each heavy model."""

from __future__ import annotations

import os
from collections.abc import Mapping

import bentoml

from bandstand.errors import MalformedRequestError, ModelNotInstalledError
from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.runners.load_journal import LoadJournal
from bandstand.runners.loaded import LoadedModel
from bandstand.runners.local_pool import LocalPool
from bandstand.settings import get_settings
from bandstand.telemetry import BATCH_QUEUE_SECONDS, BATCH_ROWS, INFERENCE_SECONDS
from bandstand_bentos.seam import Block, RefusePickles, supervised_services
from bandstand_bentos.server_folder import ServerFolder, mark_ready
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
    """Return the BentoML service name of the runner process of a heavy model."""
    return f"{_OWN}{model}"


def own_runners(usable: Mapping[str, Card]) -> tuple[str, ...]:
    """Return the models that have a runner process of their own, for as long as the server runs.

    The supervisor decides this when it starts. A process that is replaced later uses the list of
    existing processes, because the repository may have changed.

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
    """Computes batches of windows with one or several models; requests share batches."""

    own: str | None

    def __init__(self) -> None:
        self._catalogue = Catalogue.from_settings(_SETTINGS)
        folder = ServerFolder.of_this_process()
        journal = LoadJournal(None if folder is None else folder.loading)
        self._pool = LocalPool(_SETTINGS, self._catalogue, _observe, journal)

    @bentoml.on_startup
    async def start(self) -> None:
        """Set up the process, and load and warm up its models."""
        start_worker(_SETTINGS)
        await self._pool.load_installed(self._models_to_load())
        mark_ready()

    @bentoml.on_shutdown
    async def shut_down(self) -> None:
        """Finish the batches in progress and close the models."""
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
        """Compute one batch of the model that the metadata name as `model`.

        Args:
            block: an array per model input, batch axis first.
            ctx: the request, to notice a client that disconnected.
        """
        client_waits = connection_check(ctx)

        async def work(arrays: Arrays, metadata: Metadata) -> tuple[Arrays, Metadata]:
            model = self._serving(metadata["model"])
            outputs = await model.infer(arrays, client_waits)
            return outputs, {**_version_and_runtime(model), "process": os.getpid()}

        return await answer(block, work)

    @bentoml.api(input_spec=Block, output_spec=Block)
    async def control(self, block: bytes, /) -> bytes:
        """Run the `command` of the metadata.

        `load`: serve `version` (None: the newest) of `model`; return when the previous version has
        finished its batches. `unload`: stop serving `model`. `list`: return the models that are
        served, and those that could not be loaded, with the reason.
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
        raise MalformedRequestError("a runner process has no such command")


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
    """Make the BentoML service that runs all models that have no runner process of their own."""
    return _service(SHARED_RUNNER, None)


def runner_of(service: str) -> bentoml.Service:
    """Make the BentoML service of a runner process from its name."""
    if service == SHARED_RUNNER:
        return shared_runner()
    return own_runner(service.removeprefix(_OWN))
