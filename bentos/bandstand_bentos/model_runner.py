"""One batched runner a model, by name; it changes versions without losing a request."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import bentoml

from bandstand.errors import ModelNotInstalledError
from bandstand.models.repository import ModelRepository
from bandstand.runners.loaded import LoadedModel, load_model
from bandstand.settings import get_settings
from bandstand.telemetry import BATCH_QUEUE_SECONDS, BATCH_ROWS, INFERENCE_SECONDS
from bandstand_bentos.seam import Block, RefusePickles
from bandstand_bentos.wiring import service_config
from bandstand_bentos.worker import (
    Arrays,
    Facts,
    answer,
    client_waits,
    start_worker,
)

_SETTINGS = get_settings()


def runner_name(model: str) -> str:
    """Return the BentoML service name of a model's runner."""
    return f"runner_{model}"


class _ModelRunner:
    """Loads one model and answers batches of windows; callers share its batches."""

    name: str

    def __init__(self) -> None:
        self._repository = ModelRepository.from_settings(_SETTINGS)
        version = self._repository.serving(self.name).version
        self._model: LoadedModel | None = self._load(version)
        self._changing = asyncio.Lock()

    def _load(self, version: int) -> LoadedModel:
        installed = self._repository.installed(self.name, version)
        model = load_model(installed, _SETTINGS, on_batch=self._observe)
        model.warm_up()
        return model

    def _observe(self, rows: int, seconds: float, queued_seconds: float) -> None:
        BATCH_ROWS.labels(self.name).observe(rows)
        INFERENCE_SECONDS.labels(self.name).observe(seconds)
        BATCH_QUEUE_SECONDS.labels(self.name).observe(queued_seconds)

    @bentoml.on_startup
    async def start(self) -> None:
        """Set up the process; the model was loaded and has answered once already."""
        start_worker(_SETTINGS)

    @bentoml.on_shutdown
    async def shut_down(self) -> None:
        """Finish what was begun and let the model go."""
        await self._replace(None)

    @bentoml.api(input_spec=Block, output_spec=Block)
    async def infer(self, block: bytes, /, ctx: bentoml.Context) -> bytes:
        """Answer one batch.

        Args:
            block: an array per model input, batch axis first.
            ctx: the request, to notice a caller that hung up.
        """
        still_wanted = client_waits(ctx)

        async def work(arrays: Arrays, _facts: Facts) -> tuple[Arrays, Facts]:
            model = self._model
            if model is None:
                raise ModelNotInstalledError(f"{self.name} was unloaded")
            outputs = await model.infer(arrays, still_wanted)
            return outputs, {"version": model.version, "runner": asdict(model.runner.info)}

        return await answer(block, work)

    @bentoml.api(input_spec=Block, output_spec=Block)
    async def control(self, block: bytes, /) -> bytes:
        """Load the version of fact `version`, or unload where that is None.

        Returns when what was begun with the version before is answered. A version that cannot be
        loaded changes nothing.
        """

        async def work(_arrays: Arrays, facts: Facts) -> tuple[Arrays, Facts]:
            version = facts["version"]
            async with self._changing:
                if version is None:
                    await self._replace(None)
                elif self._model is None or self._model.version != version:
                    await self._replace(await asyncio.to_thread(self._load, version))
            return {}, {}

        return await answer(block, work)

    async def _replace(self, model: LoadedModel | None) -> None:
        before, self._model = self._model, model
        if before is not None:
            await before.aclose()


def model_runner(name: str) -> bentoml.Service:
    """Make the BentoML service that runs one model: one process, one batcher."""
    inner = type(f"Runner_{name}", (_ModelRunner,), {"name": name})
    service = bentoml.service(inner, name=runner_name(name), workers=1, **service_config(_SETTINGS))
    service.add_asgi_middleware(RefusePickles)
    return service
