"""The operations in this process, for the command line, batch runs and notebooks.

    async with LocalBandstand() as bandstand:
        print((await bandstand.classify("song.mp3")).primary_genre)

With the runtime `triton` the models run on a Triton server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, TypeVar, cast

from bandstand.audio.decode import DecodeLimits
from bandstand.audio.fetch import FetchLimits, fetch
from bandstand.errors import PayloadTooLargeError
from bandstand.models.catalogue import Catalogue
from bandstand.operations.encoding import read_options
from bandstand.operations.served import BY_NAME
from bandstand.pipelines.prepare import LocalPreparation
from bandstand.pipelines.resources import Resources
from bandstand.runners.local_pool import LocalPool
from bandstand.runners.pool import ModelPool
from bandstand.settings import Settings, get_settings
from bandstand_client.calls import encoded, is_address
from bandstand_client.contract.declaration import Audio, Operation
from bandstand_client.contract.operations import Operations

A = TypeVar("A")


def _pool(settings: Settings, catalogue: Catalogue) -> ModelPool:
    if settings.runtime != "triton":
        return LocalPool(settings, catalogue)
    from bandstand.triton.pool import TritonPool  # the Triton client is an extra

    return TritonPool(settings, catalogue)


class LocalBandstand(Operations):
    """All operations without a server; an async context manager.

    It has the methods of `bandstand_client.AsyncBandstand`; they raise the errors of
    `bandstand.errors`.

    Args:
        settings: limits, repository, runtime; None: from the environment.
    """

    is_async: ClassVar[bool] = True

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or get_settings()
        catalogue = Catalogue.from_settings(self._settings)
        self._pool = _pool(self._settings, catalogue)
        limits = DecodeLimits.from_settings(self._settings)
        self._resources = Resources(LocalPreparation(limits), self._pool, catalogue)

    async def __aenter__(self) -> LocalBandstand:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        await self._pool.aclose()

    async def answer(
        self, operation: Operation[..., A], audio: Audio, options: Mapping[str, object]
    ) -> A:
        """Run one operation; `await bandstand.classify(audio)` is the shorter form.

        Raises:
            BandstandError: the refusal, as from a server.
            OSError: the file cannot be read.
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
