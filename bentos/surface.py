"""What the routes need, gathered once at start-up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic

from bandstand import __version__
from bandstand.audio.fetch import FetchLimits
from bandstand.errors import BandstandError
from bandstand.models.repository import ModelRepository
from bandstand.pipelines.answers import HealthAnswer
from bandstand.pipelines.features import FeaturesPipeline
from bandstand.pipelines.genre import GenrePipeline
from bandstand.runners.loaded import probe_inputs
from bandstand.settings import Settings
from bentos.admission import Admission
from bentos.control import ModelControl, ServedModel

_PROBE_SECONDS = 5.0  # a probe's deadline, and for how long its finding holds


@dataclass(slots=True)
class Probe:
    """One part's health, found by making it do its work in small."""

    name: str
    attempt: Callable[[], Awaitable[object]]
    _finding: str = "not tried yet"
    _found_at: float = field(default=float("-inf"))
    _running: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def check(self) -> str:
        """Return `ok` or what is wrong; a finding holds for a few seconds."""
        async with self._running:
            if monotonic() - self._found_at > _PROBE_SECONDS or self._finding != "ok":
                self._finding = await self._try()
                self._found_at = monotonic()
            return self._finding

    async def _try(self) -> str:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self.attempt()
        except TimeoutError:
            return f"no answer within {_PROBE_SECONDS:g} s"
        except BandstandError as error:
            return error.message
        return "ok"


@dataclass(frozen=True, slots=True)
class Surface:
    """The pipelines, models and limits behind the routes of one gateway process."""

    settings: Settings
    admission: Admission
    genre: GenrePipeline
    features: FeaturesPipeline
    models: Mapping[str, ServedModel]
    control: ModelControl
    repository: ModelRepository
    probes: tuple[Probe, ...]
    """Of the parts that are always there; every model has one of its own."""
    fetch_limits: FetchLimits
    _model_probes: dict[str, Probe] = field(default_factory=dict)

    async def health(self) -> HealthAnswer:
        """Try every part, and every model that is served just now."""
        probes = [*self.probes, *map(self._probe_of, self.models)]
        findings = await asyncio.gather(*(probe.check() for probe in probes))
        checks = {probe.name: finding for probe, finding in zip(probes, findings, strict=True)}
        healthy = all(finding == "ok" for finding in findings)
        return HealthAnswer(
            status="ok" if healthy else "degraded", version=__version__, checks=checks
        )

    def _probe_of(self, name: str) -> Probe:
        async def attempt() -> object:
            model = self.models.get(name)  # it may have been unloaded in the meantime
            return None if model is None else await model.infer(probe_inputs(model.card))

        return self._model_probes.setdefault(name, Probe(name, attempt))
