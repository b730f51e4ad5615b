"""The model pool of models in this process; each has its own micro-batcher."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from bandstand.errors import BandstandError, ModelNotInstalledError
from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.models.installed import InstalledModel
from bandstand.runners.base import Array
from bandstand.runners.load_journal import LoadJournal
from bandstand.runners.loaded import LoadedModel, load_model
from bandstand.runners.pool import ModelPool
from bandstand.settings import Settings

Observe = Callable[[str, int, float, float], None]
"""Called after a batch: model, rows, seconds, and how many seconds the oldest row had waited."""

logger = logging.getLogger(__name__)


class LocalModel:
    """A model of this process; its first batch loads it."""

    def __init__(self, pool: LocalPool, card: Card, version: int, runtime: str | None) -> None:
        self.card = card
        self.version = version
        self.runtime = runtime
        self._pool = pool

    async def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute one batch; afterwards `card` and `version` are those that answered."""
        model = await self._pool.ready(self.card.name)
        self.card, self.version, self.runtime = model.card, model.version, model.runtime
        return await model.infer(inputs)


class LocalPool(ModelPool):
    """Models of this process, loaded at their first use or by `load`. For one event loop only.

    A model is loaded in a thread, so that the others can compute meanwhile.

    Args:
        settings: runtime, precision and threads.
        catalogue: the cards and the repository.
        observe: called after every batch.
        journal: remembers models that end the process while they are loaded; None: nothing does.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        observe: Observe | None = None,
        journal: LoadJournal | None = None,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._observe = observe
        self._journal = journal or LoadJournal(None)
        self._loaded: dict[str, LoadedModel] = {}
        self._unloaded: set[str] = set()
        self._failures: dict[str, BandstandError] = {}
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def __getitem__(self, name: str) -> LocalModel:
        if name in self._loaded:
            loaded = self._loaded[name]
            return LocalModel(self, loaded.card, loaded.version, loaded.runtime)
        if name in self._unloaded:
            raise KeyError(name)
        try:
            installed = self._catalogue.serving(name)
            return LocalModel(self, installed.card(), installed.version, None)
        except BandstandError as error:  # the catalogue says whether it is missing or broken
            raise KeyError(name) from error

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._catalogue if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def served(self) -> Mapping[str, LoadedModel]:
        """The models that are loaded."""
        return self._loaded

    @property
    def failures(self) -> Mapping[str, BandstandError]:
        """Why models could not be loaded by `load_installed`, by name."""
        return self._failures

    async def ready(self, name: str) -> LoadedModel:
        """Return a model, and load it if needed.

        A batch that the caller submits before its next `await` is computed, also if the model is
        unloaded then.

        Raises:
            ModelNotInstalledError: the model was unloaded.
            BandstandError: the model cannot be loaded.
        """
        if name not in self._loaded:
            async with self._changing[name]:
                if name in self._unloaded:
                    raise ModelNotInstalledError(f"{name} was unloaded")
                if name not in self._loaded:
                    installed = self._catalogue.serving(name)
                    self._loaded[name] = await asyncio.to_thread(self._open, installed)
        return self._loaded[name]

    async def load_installed(self, names: Iterable[str]) -> None:
        """Load the served versions of models; `failures` has those that cannot be loaded.

        A model that ended the process at its last load is loaded after all others.
        """
        suspects = self._journal.suspects()
        for name in sorted(names, key=lambda name: name in suspects):
            try:
                async with self._changing[name]:
                    await self._serve(self._catalogue.serving(name))
            except BandstandError as error:
                self._failures[name] = error
                logger.warning("%s is not served: %s", name, error.message)
            except Exception as error:  # the others are still loaded
                self._failures[name] = BandstandError(f"{name}: {type(error).__name__}: {error}")
                logger.exception("%s is not served", name)

    async def load(self, name: str, version: int | None = None) -> None:
        """See `ModelPool.load`."""
        self._catalogue.check(name)
        repository = self._catalogue.repository
        async with self._changing[name]:
            if version is None:
                await self._serve(repository.latest(name))
            else:
                await self._serve(repository.installed(name, version))
            await asyncio.to_thread(repository.pin, name, version)

    async def unload(self, name: str) -> None:
        """See `ModelPool.unload`."""
        self._catalogue.check(name)
        async with self._changing[name]:
            if name not in self._loaded:
                raise ModelNotInstalledError(f"{name} is not loaded")
            self._unloaded.add(name)
            await self._loaded.pop(name).aclose()

    async def aclose(self) -> None:
        """Finish the queued batches and close the models."""
        while self._loaded:
            await self._loaded.popitem()[1].aclose()

    async def _serve(self, installed: InstalledModel) -> None:
        """Replace the served version; the caller holds the lock of the name."""
        name, before = installed.name, self._loaded.get(installed.name)
        if before is None or before.version != installed.version:
            self._journal.check(installed)
            self._loaded[name] = await asyncio.to_thread(self._open_warm, installed)
        self._unloaded.discard(name)
        self._failures.pop(name, None)
        if before is not None and before is not self._loaded[name]:
            await before.aclose()

    def _open_warm(self, installed: InstalledModel) -> LoadedModel:
        with self._journal.loading(installed):
            model = self._open(installed)
            model.warm_up()
            return model

    def _open(self, installed: InstalledModel) -> LoadedModel:
        observe = None if self._observe is None else partial(self._observe, installed.name)
        return load_model(installed, self._settings, observe)
