"""Loading and unloading models of the embedded runtime, while requests go on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Protocol

from bandstand.errors import ModelNotInstalledError
from bandstand.models.catalogue import Catalogue
from bandstand.models.installed import InstalledModel
from bandstand.runners.loaded import LoadedModel, load_model
from bandstand.runners.triton import TritonModel
from bandstand.settings import Settings
from bandstand_bentos.remote import Call, RemoteModel, call_worker

ServedModel = RemoteModel | LoadedModel | TritonModel


class ModelControl(Protocol):
    """Changes which models, and which versions of them, answer."""

    async def load(self, name: str, version: int | None) -> None:
        """Serve a version from now on, and after a restart; None: the newest, whichever that is.

        What was begun with the version before is answered by it.

        Raises:
            ModelNotFoundError, ModelNotInstalledError: there is no such model, or version.
            BandstandError: it cannot be loaded; then what was served before still is.
        """
        ...

    async def unload(self, name: str) -> None:
        """Take no more requests for a model; return when those that were begun are answered.

        Raises:
            ModelNotFoundError, ModelNotInstalledError: there is no such model, or it is not served.
        """
        ...


class EmbeddedControl:
    """Models in runner processes; one that was installed later runs in the gateway's own process.

    Args:
        settings: how models are run.
        catalogue: which there are.
        models: those that are served; changed in place.
        workers: by model, the call of its runner's `control`.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        models: MutableMapping[str, ServedModel],
        workers: Mapping[str, tuple[RemoteModel, Call]],
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._models = models
        self._workers = workers
        self._changing = asyncio.Lock()

    async def load(self, name: str, version: int | None) -> None:
        """See `ModelControl.load`."""
        self._catalogue.check(name)
        repository = self._catalogue.repository
        async with self._changing:
            if version is None:
                installed = repository.latest(name)
            else:
                installed = repository.installed(name, version)
            if name in self._workers:
                model, control = self._workers[name]
                await call_worker(name, control, {}, {"version": installed.version})
                model.answered_by(installed.version)
                self._models[name] = model
            else:
                await self._load_here(installed)
            await asyncio.to_thread(repository.pin, name, version)

    async def unload(self, name: str) -> None:
        """See `ModelControl.unload`."""
        self._catalogue.check(name)
        async with self._changing:
            if name not in self._models:
                raise ModelNotInstalledError(f"{name} is not loaded")
            model = self._models.pop(name)
            if isinstance(model, LoadedModel):
                await model.aclose()
            else:
                await call_worker(name, self._workers[name][1], {}, {"version": None})

    async def _load_here(self, installed: InstalledModel) -> None:
        """Run a model that had no runner process when the server started."""

        def load() -> LoadedModel:
            model = load_model(installed, self._settings)
            model.warm_up()
            return model

        before = self._models.get(installed.name)
        self._models[installed.name] = await asyncio.to_thread(load)
        if isinstance(before, LoadedModel):
            await before.aclose()
