"""The state that the routes use, created once when the service starts."""

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

_VALID_SECONDS = 5.0  # how long a result is valid, and how long a check waits


@dataclass(slots=True, eq=False)
class Probe:
    """The health of one part, checked with a small request.

    A busy part answers late. The previous result therefore stays valid while a check runs, for at
    most the deadline of a request.

    Attributes:
        timeout_seconds: a part that does not answer within this time counts as broken.
    """

    name: str
    attempt: Attempt
    timeout_seconds: float
    _result: str = "no answer yet"
    _checked_at: float = field(default=float("-inf"))
    _running: asyncio.Task[None] | None = None

    async def check(self) -> str:
        """Return `ok` or the error; a result is valid for a few seconds."""
        is_old = monotonic() - self._checked_at > _VALID_SECONDS or self._result != "ok"
        if self._running is None and is_old:
            self._running = asyncio.create_task(self._try(), name=f"probe {self.name}")
        if self._running is not None:
            await asyncio.wait({self._running}, timeout=_VALID_SECONDS)
        return self._result

    async def _try(self) -> None:
        result = "ok"
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self.attempt()
        except TimeoutError:
            result = f"no answer within {self.timeout_seconds:g} s"
        except BandstandError as error:
            result = error.message
        except Exception as error:
            logger.exception("the probe of %s", self.name)
            result = f"{type(error).__name__}: {error}"
        self._result, self._checked_at, self._running = result, monotonic(), None


@dataclass(frozen=True, slots=True)
class Surface:
    """The settings, limits, resources and probes of one gateway process."""

    settings: Settings
    admission: Admission
    resources: Resources
    pool: ModelPool
    probes: tuple[Probe, ...]
    """The probes of the parts other than models; each model has its own probe."""
    fetch_limits: FetchLimits
    _model_probes: dict[str, Probe] = field(default_factory=dict)

    async def health(self) -> Health:
        """Check every part, and every model that is currently served."""
        probes = [*self.probes, *map(self._probe_of, self.pool.served)]
        results = await asyncio.gather(*(probe.check() for probe in probes))
        checks = {probe.name: result for probe, result in zip(probes, results, strict=True)}
        healthy = all(result == "ok" for result in results)
        return Health(status="ok" if healthy else "degraded", version=__version__, checks=checks)

    def _probe_of(self, name: str) -> Probe:
        async def attempt() -> object:
            model = self.pool.served.get(name)  # it may have been unloaded meanwhile
            return None if model is None else await model.infer(probe_inputs(model.card))

        timeout = self.settings.request_deadline_seconds
        return self._model_probes.setdefault(name, Probe(name, attempt, timeout))
