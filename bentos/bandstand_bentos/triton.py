"""The gateway on a Triton server: which models there are, and their control, follow that one."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from bandstand.errors import BandstandError, ModelNotInstalledError, UnavailableError
from bandstand.models.catalogue import Catalogue
from bandstand.models.repository import ModelRepository
from bandstand.runners.repetition import RETRY_AFTER_SECONDS
from bandstand.runners.triton import TritonModels
from bandstand.settings import Settings

_LOOK_SECONDS = 1.0

logger = logging.getLogger("bandstand.gateway")


class TritonRuntime:
    """What the gateway knows of a Triton server, kept up to date while it runs.

    Args:
        settings: where it is.
        catalogue: of the repository that it serves.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self.models = TritonModels(settings, catalogue)
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, then again and again; a server that is not there yet is no fault."""
        with suppress(BandstandError):
            await self.models.refresh()
        self._following = asyncio.create_task(self._follow(), name="follow-triton")

    async def aclose(self) -> None:
        """Stop looking, and let the connections go."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self.models.aclose()

    async def check(self) -> None:
        """Find the server there, with models.

        Its own readiness is not asked for: one model that cannot be loaded, or is just being
        unloaded, makes it say no, while all others answer. Each that is served is tried by itself.

        Raises:
            UnavailableError: it is gone, or serves no model.
        """
        await self.models.refresh()
        if not self.models.served:
            raise UnavailableError(
                f"Triton at {self.models.connection.url} serves no model",
                retry_after=RETRY_AFTER_SECONDS,
            )

    async def _follow(self) -> None:
        there = bool(self.models.served)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self.models.refresh()
            except BandstandError as error:
                if there:
                    logger.warning("%s", error)
                there = False
            else:
                if not there:
                    logger.info("Triton serves %s", ", ".join(self.models.served) or "no model")
                there = True


class TritonControl:
    """Loads and unloads on the server; `bandstand_bentos.control.ModelControl`.

    The server has to run with `--model-control-mode=explicit` and read the repository's folder.

    Args:
        catalogue: in its repository versions are pinned, and the server's configuration is written.
        models: whose server it is.
    """

    def __init__(self, catalogue: Catalogue, models: TritonModels) -> None:
        self._catalogue = catalogue
        self._models = models
        self._changing = asyncio.Lock()

    async def load(self, name: str, version: int | None) -> None:
        """See `ModelControl.load`."""
        self._catalogue.check(name)
        repository = self._catalogue.repository
        async with self._changing:
            before = repository.pinned(name)
            await asyncio.to_thread(_choose, repository, name, version)
            try:
                await self._models.connection.load(name)
            except BandstandError:
                await asyncio.to_thread(_choose, repository, name, before)
                raise
            await self._models.refresh()

    async def unload(self, name: str) -> None:
        """See `ModelControl.unload`."""
        self._catalogue.check(name)
        async with self._changing:
            await self._models.refresh()
            if name not in self._models.served:
                raise ModelNotInstalledError(f"{name} is not loaded")
            await self._models.connection.unload(name)
            await self._models.refresh()


def _choose(repository: ModelRepository, name: str, version: int | None) -> None:
    from bandstand.triton.config import choose_version  # the Triton client is an extra

    choose_version(repository, name, version)
