"""The operations in this very process: what the command line, batch runs and notebooks use.

    async with LocalBandstand() as bandstand:
        print((await bandstand.classify("song.mp3")).primary_genre)

With the runtime `triton` only the models are elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from bandstand.audio.decode import DecodeLimits
from bandstand.audio.fetch import FetchLimits, fetch
from bandstand.errors import BandstandError, PayloadTooLargeError
from bandstand.models.catalogue import Catalogue
from bandstand.operations.encoding import read_options
from bandstand.operations.served import BY_NAME
from bandstand.pipelines.prepare import LocalPreparation
from bandstand.pipelines.resources import Resources
from bandstand.runners.loaded import LoadedModel, load_model
from bandstand.settings import Settings, get_settings
from bandstand_client.calls import encoded, is_address
from bandstand_client.contract.declaration import Audio, Operation
from bandstand_client.contract.operations import Operations

if TYPE_CHECKING:
    from bandstand.runners.triton import TritonModels

A = TypeVar("A")


class _ModelsOnDemand(dict[str, LoadedModel]):
    """Installed models by name, each loaded at its first use."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        super().__init__()
        self._settings = settings
        self._catalogue = catalogue

    def __missing__(self, name: str) -> LoadedModel:
        try:
            installed = self._catalogue.serving(name)
            installed.card()
        except BandstandError as error:  # not there, or broken: the catalogue says which
            raise KeyError(name) from error
        self[name] = load_model(installed, self._settings)
        return self[name]

    async def aclose(self) -> None:
        """Finish what was begun and let the models go."""
        for model in self.values():
            await model.aclose()


def _models(settings: Settings, catalogue: Catalogue) -> _ModelsOnDemand | TritonModels:
    if settings.runtime != "triton":
        return _ModelsOnDemand(settings, catalogue)
    from bandstand.runners.triton import TritonModels

    return TritonModels(settings, catalogue)


class LocalBandstand(Operations):
    """Every operation of a server, without one; an async context manager.

    Its methods are those of `bandstand_client.AsyncBandstand`, and raise the refusals of
    `bandstand.errors`.

    Args:
        settings: limits, repository, runtime; None: those of the environment.
    """

    is_async: ClassVar[bool] = True

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or get_settings()
        catalogue = Catalogue.from_settings(self._settings)
        self._models = _models(self._settings, catalogue)
        limits = DecodeLimits.from_settings(self._settings)
        self._resources = Resources(LocalPreparation(limits), self._models, catalogue)

    async def __aenter__(self) -> LocalBandstand:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        await self._models.aclose()

    async def answer(
        self, operation: Operation[..., A], audio: Audio, options: Mapping[str, object]
    ) -> A:
        """Answer one operation; `await bandstand.classify(audio)` is the shorter form.

        Raises:
            BandstandError: what a server would refuse with.
            OSError: a file that cannot be read.
        """
        read = read_options(operation, options)
        content = await self._content(audio)
        answer = await BY_NAME[operation.name].run(self._resources, content, read)
        return cast("A", answer)

    async def _content(self, audio: Audio) -> bytes:
        if is_address(audio):
            return await fetch(audio, FetchLimits.from_settings(self._settings))
        most = self._settings.max_upload_bytes
        if isinstance(audio, str | Path):
            return await asyncio.to_thread(_read, Path(audio), most)
        return encoded(audio)


def _read(path: Path, max_bytes: int) -> bytes:
    if path.stat().st_size > max_bytes:
        raise PayloadTooLargeError(f"the file is larger than {max_bytes} bytes")
    return path.read_bytes()
