"""The pipelines in this very process: what the command line and batch runs use.

With the runtime `triton` only the models are elsewhere.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

from bandstand.audio.decode import DecodeLimits
from bandstand.errors import BandstandError
from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.pipelines.answers import FeaturesAnswer, GenreAnswer, InstrumentsAnswer
from bandstand.pipelines.features import FeaturesPipeline
from bandstand.pipelines.genre import DEFAULT_MODEL, DEFAULT_TOP_K, GenrePipeline
from bandstand.pipelines.instruments import DEFAULT_THRESHOLD, InstrumentsPipeline
from bandstand.pipelines.prepare import Prepared, prepare
from bandstand.runners.loaded import LoadedModel, load_model
from bandstand.settings import Settings, get_settings

if TYPE_CHECKING:
    from bandstand.runners.triton import TritonModels


class LocalPreparation:
    """Prepares recordings on this process's threads."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits

    async def prepare(self, audio: bytes, card: Card) -> Prepared:
        """See `bandstand.pipelines.prepare.prepare`."""
        return await asyncio.to_thread(prepare, audio, card, self._limits)


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


class LocalPipelines:
    """Everything Bandstand answers, without a server; an async context manager."""

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings or get_settings()
        preparation = LocalPreparation(DecodeLimits.from_settings(settings))
        catalogue = Catalogue.from_settings(settings)
        self._models = _models(settings, catalogue)
        self._genre = GenrePipeline(preparation, self._models, catalogue)
        self._instruments = InstrumentsPipeline(preparation, self._models, catalogue)
        # Windows and front end are Bandstand's own, whatever is installed under that name.
        self._features = FeaturesPipeline(preparation, catalogue.installable(DEFAULT_MODEL))

    async def __aenter__(self) -> LocalPipelines:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        await self._models.aclose()

    async def classify(
        self, data: bytes, *, model: str | None = None, top_k: int = DEFAULT_TOP_K
    ) -> GenreAnswer:
        """Name the genre of one encoded recording; see `GenrePipeline.predict`."""
        return await self._genre.predict(data, model=model, top_k=top_k)

    async def instruments(
        self, data: bytes, *, model: str | None = None, threshold: float | None = None
    ) -> InstrumentsAnswer:
        """Name the instruments of one encoded recording; see `InstrumentsPipeline.detect`."""
        if threshold is None:
            threshold = DEFAULT_THRESHOLD
        return await self._instruments.detect(data, model=model, threshold=threshold)

    async def features(self, data: bytes) -> FeaturesAnswer:
        """Compute the features of one encoded recording; see `FeaturesPipeline.analyze`."""
        return await self._features.analyze(data)
