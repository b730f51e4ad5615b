"""What the routes need, gathered once at start-up."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from time import monotonic

from bandstand import __version__
from bandstand.audio.fetch import FetchLimits
from bandstand.errors import BandstandError
from bandstand.pipelines.resources import Resources
from bandstand.runners.loaded import probe_inputs
from bandstand.runners.pool import Attempt, ModelPool
from bandstand.settings import Settings
from bandstand_bentos.admission import Admission
from bandstand_client.contract.shared import Health

logger = logging.getLogger("bandstand.gateway")

_HOLDS_SECONDS = 5.0  # for so long a finding holds, and so long a check waits for a new one


@dataclass(slots=True, eq=False)
class Probe:
    """One part's health, found by making it do its work in small.

    A part that has much to do answers a probe late. So the finding before holds while a new one is
    awaited, as long as any request may take.

    Attributes:
        patience_seconds: after which a part that does not answer counts as broken.
    """

    name: str
    attempt: Attempt
    patience_seconds: float
    _finding: str = "no answer yet"
    _found_at: float = field(default=float("-inf"))
    _trying: asyncio.Task[None] | None = None

    async def check(self) -> str:
        """Return `ok` or what is wrong; a finding holds for a few seconds."""
        is_old = monotonic() - self._found_at > _HOLDS_SECONDS or self._finding != "ok"
        if self._trying is None and is_old:
            self._trying = asyncio.create_task(self._try(), name=f"probe {self.name}")
        if self._trying is not None:
            await asyncio.wait({self._trying}, timeout=_HOLDS_SECONDS)
        return self._finding

    async def _try(self) -> None:
        finding = "ok"
        try:
            async with asyncio.timeout(self.patience_seconds):
                await self.attempt()
        except TimeoutError:
            finding = f"no answer within {self.patience_seconds:g} s"
        except BandstandError as error:
            finding = error.message
        except Exception as error:
            logger.exception("the probe of %s", self.name)
            finding = f"{type(error).__name__}: {error}"
        self._finding, self._found_at, self._trying = finding, monotonic(), None


@dataclass(frozen=True, slots=True)
class Surface:
    """What operations run with, models and limits behind the routes of one gateway process."""

    settings: Settings
    admission: Admission
    resources: Resources
    pool: ModelPool
    probes: tuple[Probe, ...]
    """Of the parts that are always there; every model has one of its own."""
    fetch_limits: FetchLimits
    _model_probes: dict[str, Probe] = field(default_factory=dict)

    async def health(self) -> Health:
        """Try every part, and every model that is served just now."""
        probes = [*self.probes, *map(self._probe_of, self.pool.served)]
        findings = await asyncio.gather(*(probe.check() for probe in probes))
        checks = {probe.name: finding for probe, finding in zip(probes, findings, strict=True)}
        healthy = all(finding == "ok" for finding in findings)
        return Health(status="ok" if healthy else "degraded", version=__version__, checks=checks)

    def _probe_of(self, name: str) -> Probe:
        async def attempt() -> object:
            model = self.pool.served.get(name)  # it may have been unloaded in the meantime
            return None if model is None else await model.infer(probe_inputs(model.card))

        patience = self.settings.request_deadline_seconds
        return self._model_probes.setdefault(name, Probe(name, attempt, patience))
