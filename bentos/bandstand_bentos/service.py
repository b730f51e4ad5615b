"""The BentoML service: `bentoml serve bandstand_bentos.service:Bandstand`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import bentoml

from bandstand.audio.fetch import FetchLimits
from bandstand.audio.probe import probe_recording
from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.pipelines.listing import list_models
from bandstand.pipelines.model_output import Model
from bandstand.pipelines.resources import Resources
from bandstand.settings import get_settings
from bandstand.telemetry import configure_logs
from bandstand_bentos.admission import Admission
from bandstand_bentos.control import EmbeddedControl, ModelControl, ServedModel
from bandstand_bentos.edge import Edge
from bandstand_bentos.handover import can_hand_over
from bandstand_bentos.image import serving_image
from bandstand_bentos.model_runner import model_runner, runner_name
from bandstand_bentos.preprocessor import Preprocessor
from bandstand_bentos.remote import Call, FeatureCache, RemoteModel, RemotePreparation
from bandstand_bentos.routes import create_app
from bandstand_bentos.seam import FrontDoor, worker_address, worker_call
from bandstand_bentos.surface import Probe, Surface
from bandstand_bentos.triton import TritonControl, TritonRuntime
from bandstand_bentos.wiring import GATEWAY, PREPROCESSOR, service_config

_SETTINGS = get_settings()
_CATALOGUE = Catalogue.from_settings(_SETTINGS)
# Each has a runner process; a Triton server runs all models itself.
_IN_RUNNERS = () if _SETTINGS.runtime == "triton" else tuple(_CATALOGUE.usable())

logger = logging.getLogger("bandstand.gateway")

app = create_app()


@dataclass(frozen=True, slots=True)
class _Runtime:
    """What runs the models.

    Attributes:
        models: all that may be asked; those that cannot answer say so.
        served: those that answer just now.
    """

    models: Mapping[str, Model]
    served: Mapping[str, ServedModel]
    control: ModelControl
    probes: tuple[Probe, ...] = ()


def _probe(name: str, attempt: Callable[[], Awaitable[object]]) -> Probe:
    return Probe(name, attempt, _SETTINGS.request_deadline_seconds)


class _Gateway:
    """Composes the preprocessor and the model runners behind the HTTP surface."""

    preprocessor = bentoml.depends(Preprocessor)
    _triton: TritonRuntime | None = None

    def _model(self, name: str) -> tuple[RemoteModel, Call]:
        """Return a model in a runner process, and the call of the runner's `control`."""
        runner = getattr(self, runner_name(name))

        def card_of(version: int) -> Card:
            return _CATALOGUE.repository.installed(name, version).card()

        version = _CATALOGUE.serving(name).version
        model = RemoteModel(card_of, version, runner_name(name), worker_call(runner, "infer"))
        return model, worker_call(runner, "control")

    async def _runtime(self) -> _Runtime:
        """Return the models: on a Triton server, or in the runner processes."""
        if _SETTINGS.runtime == "triton":
            self._triton = TritonRuntime(_SETTINGS, _CATALOGUE)
            await self._triton.start()
            models = self._triton.models
            control = TritonControl(_CATALOGUE, models)
            return _Runtime(models, models.served, control, (_probe("triton", self._triton.check),))
        workers = {name: self._model(name) for name in _IN_RUNNERS}
        served: dict[str, ServedModel] = {name: model for name, (model, _) in workers.items()}
        embedded = EmbeddedControl(_SETTINGS, _CATALOGUE, served, workers)
        return _Runtime(served, served, embedded)

    @bentoml.on_startup
    async def start(self) -> None:
        """Connect the routes with the workers."""
        configure_logs(_SETTINGS)
        prepare = worker_call(self.preprocessor, "prepare")
        cache = FeatureCache(_SETTINGS.feature_cache_entries)
        near = can_hand_over(worker_address(self.preprocessor))
        preparation = RemotePreparation(PREPROCESSOR, prepare, cache, hand_over=near)
        uncached = RemotePreparation(PREPROCESSOR, prepare, FeatureCache(0))
        runtime = await self._runtime()
        for model in list_models(_CATALOGUE, runtime.served).models:
            if model.status == "broken":
                logger.warning("%s is not served: %s", model.name, model.reason)
        # Windows and front end are Bandstand's own, whatever is installed under that name.
        features_card = _CATALOGUE.installable(DEFAULT_MODEL)
        recording = probe_recording()
        app.state.surface = Surface(
            settings=_SETTINGS,
            admission=_ADMISSION,
            resources=Resources(preparation, runtime.models, _CATALOGUE),
            models=runtime.served,
            control=runtime.control,
            catalogue=_CATALOGUE,
            probes=(
                _probe(PREPROCESSOR, lambda: uncached.prepare(recording, (features_card,))),
                *runtime.probes,
            ),
            fetch_limits=FetchLimits.from_settings(_SETTINGS),
        )

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Let the connections go; nothing is in flight any more."""
        if self._triton is not None:
            await self._triton.aclose()


_ADMISSION = Admission(_SETTINGS.max_in_flight, _SETTINGS.max_queued)
app.add_middleware(Edge, admission=_ADMISSION, max_body_bytes=_SETTINGS.max_upload_bytes)
for _name in _IN_RUNNERS:
    setattr(_Gateway, runner_name(_name), bentoml.depends(model_runner(_name)))

Bandstand = bentoml.service(
    bentoml.asgi_app(app, path="/")(_Gateway),
    name=GATEWAY,
    workers=1,
    image=serving_image(),
    **service_config(_SETTINGS),
)
Bandstand.add_asgi_middleware(FrontDoor, ours=app)
