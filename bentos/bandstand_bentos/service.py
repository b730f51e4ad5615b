"""The BentoML service: `bentoml serve bandstand_bentos.service:Bandstand`."""

from __future__ import annotations

import logging
import sys
from typing import IO

import bentoml

from bandstand.audio.fetch import FetchLimits
from bandstand.audio.probe import probe_recording
from bandstand.models.catalogue import Catalogue
from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.pipelines.listing import list_models
from bandstand.pipelines.resources import Resources
from bandstand.runners.pool import Attempt, ModelPool
from bandstand.settings import get_settings
from bandstand.telemetry import configure_logs
from bandstand.triton.pool import TritonPool
from bandstand_bentos.admission import Admission
from bandstand_bentos.body_bytes import BodyLimits
from bandstand_bentos.edge import Edge, refuse_connection
from bandstand_bentos.handover import can_hand_over
from bandstand_bentos.http_seam import bound_connections
from bandstand_bentos.image import serving_image
from bandstand_bentos.model_runner import (
    SHARED_RUNNER,
    own_runner,
    own_runners,
    runner_name,
    shared_runner,
)
from bandstand_bentos.orphans import end_with_supervisor
from bandstand_bentos.preprocessor import Preprocessor
from bandstand_bentos.remote import FeatureCache, RemotePreparation
from bandstand_bentos.routes import create_app
from bandstand_bentos.runner_pool import RunnerPool, RunnerProcess
from bandstand_bentos.seam import HttpToOurApp, service_of, worker_address, worker_call
from bandstand_bentos.server_folder import GATEWAY_LOCK, ServerFolder, mark_ready
from bandstand_bentos.surface import Probe, Surface
from bandstand_bentos.wiring import GATEWAY, PREPROCESSOR, service_config

_SETTINGS = get_settings()
_CATALOGUE = Catalogue.from_settings(_SETTINGS)
# With Triton there are no runner processes.
_OWN_RUNNERS = () if _SETTINGS.runtime == "triton" else own_runners(_CATALOGUE.usable())

logger = logging.getLogger("bandstand.gateway")

app = create_app(audio_url=_SETTINGS.audio_url == "on")


def _probe(name: str, attempt: Attempt) -> Probe:
    return Probe(name, attempt, _SETTINGS.request_deadline_seconds)


class _Gateway:
    """Connects the HTTP routes with the preprocessor and the models."""

    preprocessor = bentoml.depends(Preprocessor)
    _pool: ModelPool
    _lock: IO[bytes]

    def _runner(self, name: str) -> RunnerProcess:
        """Return the connection to the runner process of a service."""
        runner = getattr(self, name)
        return RunnerProcess(name, worker_call(runner, "infer"), worker_call(runner, "control"))

    def _models(self) -> ModelPool:
        """Return the model pool: of a Triton server, or of the runner processes."""
        if _SETTINGS.runtime == "triton":
            return TritonPool(_SETTINGS, _CATALOGUE)
        own = {name: self._runner(runner_name(name)) for name in _OWN_RUNNERS}
        return RunnerPool(_CATALOGUE, self._runner(SHARED_RUNNER), own)

    @bentoml.on_startup
    async def start(self) -> None:
        """Connect the routes with the workers."""
        configure_logs(_SETTINGS)
        folder = ServerFolder.of_this_process()
        if folder is not None:
            self._lock = folder.hold(GATEWAY_LOCK)  # workers outlive whoever holds it
            end_with_supervisor(folder)
        prepare = worker_call(self.preprocessor, "prepare")
        cache = FeatureCache(_SETTINGS.feature_cache_entries)
        near = can_hand_over(worker_address(self.preprocessor))
        preparation = RemotePreparation(PREPROCESSOR, prepare, cache, hand_over=near)
        uncached = RemotePreparation(PREPROCESSOR, prepare, FeatureCache(0))
        self._pool = self._models()
        await self._pool.start()
        for model in list_models(_CATALOGUE, self._pool).models:
            if model.status == "broken":
                logger.warning("%s is not served: %s", model.name, model.reason)
        # The built-in card: an installed version of that name may have other windows.
        features_card = _CATALOGUE.installable(DEFAULT_MODEL)
        recording = probe_recording()
        app.state.surface = Surface(
            settings=_SETTINGS,
            admission=_ADMISSION,
            resources=Resources(preparation, self._pool, _CATALOGUE),
            pool=self._pool,
            probes=(
                _probe(PREPROCESSOR, lambda: uncached.prepare(recording, (features_card,))),
                *(_probe(name, attempt) for name, attempt in self._pool.probes.items()),
            ),
            fetch_limits=FetchLimits.from_settings(_SETTINGS),
        )
        mark_ready()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Close the connections; no request is in flight."""
        await self._pool.aclose()


_ADMISSION = Admission(_SETTINGS)
app.add_middleware(Edge, admission=_ADMISSION, limits=BodyLimits.from_settings(_SETTINGS))
if _SETTINGS.runtime != "triton":
    setattr(_Gateway, SHARED_RUNNER, bentoml.depends(shared_runner()))
for _name in _OWN_RUNNERS:
    setattr(_Gateway, runner_name(_name), bentoml.depends(own_runner(_name)))

Bandstand = bentoml.service(
    bentoml.asgi_app(app, path="/")(_Gateway),
    name=GATEWAY,
    workers=1,
    image=serving_image(),
    **service_config(_SETTINGS),
)
Bandstand.add_asgi_middleware(HttpToOurApp, ours=app)
if service_of(sys.argv) == GATEWAY:  # the workers' sockets are the gateway's
    bound_connections(_SETTINGS, refuse_connection)
