"""The model pool of a Triton server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial

from bandstand.errors import BandstandError, ModelNotInstalledError, UnavailableError
from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.models.repository import ModelRepository
from bandstand.runners.pool import Attempt, ModelPool
from bandstand.runners.repetition import RETRY_AFTER_SECONDS
from bandstand.runners.triton import TritonModel
from bandstand.runners.triton_connection import TritonConnection
from bandstand.runners.triton_memory import SharedMemory, may_share
from bandstand.settings import Settings

_REFRESH_SECONDS = 1.0

logger = logging.getLogger(__name__)


class TritonPool(ModelPool):
    """The models of a Triton server.

    A lookup sends no request. `served` has the models that were ready at the last `refresh`. To
    load and unload, the server must run with `--model-control-mode=explicit`, read the repository's
    folder, and have the same administrator's key, which shared memory needs too.

    Args:
        settings: the address of the server, deadline and channels.
        catalogue: of the repository that the server reads. For a model that is not in it, the
            built-in card is used, if it has labels.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._connection = TritonConnection(
            settings.triton_url,
            channels=settings.triton_channels,
            deadline_seconds=settings.request_deadline_seconds,
            control_key=settings.triton_control_key(),
        )
        shares = may_share(settings.triton_shared_memory, settings.triton_url)
        self._memory = SharedMemory(self._connection, enabled=shares)
        self._catalogue = catalogue
        self._models: dict[str, TritonModel] = {}
        self._served: dict[str, TritonModel] = {}
        self._changing = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    def __getitem__(self, name: str) -> TritonModel:
        if name in self._models:
            return self._models[name]
        try:
            self._catalogue.check(name)
            installed = self._catalogue.repository.versions(name)
            return self._add(name, self._catalogue.serving(name).version if installed else 0)
        except BandstandError as error:  # there is no such model, or its labels are not known
            raise KeyError(name) from error

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._catalogue if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def served(self) -> Mapping[str, TritonModel]:
        """The models that were ready at the last refresh."""
        return self._served

    @property
    def probes(self) -> Mapping[str, Attempt]:
        """The server itself."""
        return {"triton": self.check}

    async def start(self) -> None:
        """Refresh once, then regularly; the server may start later."""
        with suppress(BandstandError):
            await self.refresh()
        self._refreshing = asyncio.create_task(self._refresh_regularly(), name="refresh-triton")

    async def check(self) -> None:
        """Check that the server answers and serves at least one model.

        The server's own readiness is not used: it is false when one model cannot be loaded or is
        being unloaded, while all others answer. Each served model has its own check.

        Raises:
            UnavailableError: the server is not available, or serves no model.
        """
        await self.refresh()
        if not self._served:
            raise UnavailableError(
                f"Triton at {self._connection.url} serves no model",
                retry_after=RETRY_AFTER_SECONDS,
            )

    async def refresh(self) -> None:
        """Ask the server which models are ready.

        Raises:
            UnavailableError: the server is not available; `served` is then empty.
        """
        try:
            ready = await self._connection.ready_versions(tuple(self._catalogue))
            runtime = f"triton {await self._connection.server_version()}"
        except BandstandError:
            self._served = {}
            raise
        served = {}
        for name in (name for name in ready if name in self._catalogue):
            try:
                model = self._models.get(name) or self._add(name, ready[name])
                model.set_version(ready[name])
            except BandstandError:
                continue  # its labels are not known
            model.runtime = runtime
            served[name] = model
        self._served = served

    async def load(self, name: str, version: int | None = None) -> None:
        """See `ModelPool.load`."""
        self._catalogue.check(name)
        repository = self._catalogue.repository
        async with self._changing:
            before = repository.pinned(name)
            await asyncio.to_thread(_choose, repository, name, version)
            try:
                await self._connection.load(name)
            except BandstandError:
                await asyncio.to_thread(_choose, repository, name, before)
                raise
            await self.refresh()

    async def unload(self, name: str) -> None:
        """See `ModelPool.unload`."""
        self._catalogue.check(name)
        async with self._changing:
            await self.refresh()
            if name not in self._served:
                raise ModelNotInstalledError(f"{name} is not loaded")
            await self._connection.unload(name)
            await self.refresh()

    async def aclose(self) -> None:
        """Stop the regular refresh, and close the shared memory and the channels."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await self._memory.aclose()
        await self._connection.aclose()

    def _add(self, name: str, version: int) -> TritonModel:
        """Add a model and return it; its next answer is probably of this version."""
        card_of = partial(self._card_of, name)
        self._models[name] = TritonModel(card_of, version, self._connection, self._memory)
        return self._models[name]

    def _card_of(self, name: str, version: int) -> Card:
        try:
            return self._catalogue.repository.installed(name, version).card()
        except ModelNotInstalledError:
            card = self._catalogue.cards.get(name)
            if card is None or not card.labels:
                raise
            return card

    async def _refresh_regularly(self) -> None:
        there = bool(self._served)
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            try:
                await self.refresh()
            except BandstandError as error:
                if there:
                    logger.warning("%s", error)
                there = False
            else:
                if not there:
                    logger.info("Triton serves %s", ", ".join(self._served) or "no model")
                there = True


def _choose(repository: ModelRepository, name: str, version: int | None) -> None:
    from bandstand.triton.config import choose_version  # the Triton client is an extra

    choose_version(repository, name, version)
