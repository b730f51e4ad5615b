"""Who answers a command: this process, or a server; the commands cannot tell which."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bandstand.errors import PayloadTooLargeError
from bandstand.pipelines.answers import FeaturesAnswer, GenreAnswer, InstrumentsAnswer
from bandstand.settings import Settings, get_settings
from bandstand_cli.inputs import Recording
from bandstand_cli.keys import api_key
from bandstand_client.http import AsyncBandstand

if TYPE_CHECKING:  # asking a server takes no runtime
    from bandstand.pipelines.local import LocalPipelines


class Engine(Protocol):
    """Answers for recordings; several calls may be under way at once."""

    async def classify(self, recording: Recording, *, model: str | None, top_k: int) -> GenreAnswer:
        """Name its genre."""
        ...

    async def instruments(
        self, recording: Recording, *, model: str | None, threshold: float | None
    ) -> InstrumentsAnswer:
        """Name its instruments."""
        ...

    async def features(self, recording: Recording) -> FeaturesAnswer:
        """Compute its features."""
        ...


@asynccontextmanager
async def open_engine(server: str | None) -> AsyncIterator[Engine]:
    """Yield this process's own pipelines, or the server at that URL."""
    if server is None:
        from bandstand.pipelines.local import LocalPipelines

        settings = get_settings()
        async with LocalPipelines(settings) as pipelines:
            yield _LocalEngine(pipelines, settings)
    else:
        async with AsyncBandstand(server, api_key=api_key()) as client:
            yield _ServerEngine(client)


class _LocalEngine:
    def __init__(self, pipelines: LocalPipelines, settings: Settings) -> None:
        self._pipelines = pipelines
        self._settings = settings

    async def _content(self, recording: Recording) -> bytes:
        if recording.path is not None:
            return await asyncio.to_thread(_read, recording.path, self._settings.max_upload_bytes)
        from bandstand.audio.fetch import FetchLimits, fetch

        return await fetch(recording.name, FetchLimits.from_settings(self._settings))

    async def classify(self, recording: Recording, *, model: str | None, top_k: int) -> GenreAnswer:
        content = await self._content(recording)
        return await self._pipelines.classify(content, model=model, top_k=top_k)

    async def instruments(
        self, recording: Recording, *, model: str | None, threshold: float | None
    ) -> InstrumentsAnswer:
        content = await self._content(recording)
        return await self._pipelines.instruments(content, model=model, threshold=threshold)

    async def features(self, recording: Recording) -> FeaturesAnswer:
        return await self._pipelines.features(await self._content(recording))


class _ServerEngine:
    def __init__(self, client: AsyncBandstand) -> None:
        self._client = client

    async def classify(self, recording: Recording, *, model: str | None, top_k: int) -> GenreAnswer:
        url = None if recording.path else recording.name
        result = await self._client.classify(recording.path, url=url, model=model, top_k=top_k)
        return GenreAnswer.model_validate(result, from_attributes=True)

    async def instruments(
        self, recording: Recording, *, model: str | None, threshold: float | None
    ) -> InstrumentsAnswer:
        url = None if recording.path else recording.name
        result = await self._client.detect_instruments(
            recording.path, url=url, model=model, threshold=threshold
        )
        return InstrumentsAnswer.model_validate(result, from_attributes=True)

    async def features(self, recording: Recording) -> FeaturesAnswer:
        url = None if recording.path else recording.name
        result = await self._client.features(recording.path, url=url)
        return FeaturesAnswer.model_validate(result, from_attributes=True)


def _read(path: Path, max_bytes: int) -> bytes:
    if path.stat().st_size > max_bytes:
        raise PayloadTooLargeError(f"the file is larger than {max_bytes} bytes")
    return path.read_bytes()
