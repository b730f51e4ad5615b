"""The BentoML service: `bentoml serve bentos.service:Bandstand`."""

from __future__ import annotations

from functools import partial

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from bandstand.audio.fetch import FetchLimits
from bandstand.models.card import Card, get_card, load_cards
from bandstand.models.repository import ModelRepository
from bandstand.pipelines.features import FeaturesPipeline
from bandstand.pipelines.genre import DEFAULT_MODEL, GenrePipeline
from bandstand.runners.loaded import probe_inputs
from bandstand.settings import get_settings
from bandstand.telemetry import configure_logs
from bentos.admission import Admission
from bentos.edge import Edge
from bentos.handover import can_hand_over
from bentos.image import serving_image
from bentos.model_runner import model_runner, runner_name
from bentos.preprocessor import Preprocessor, probe_recording
from bentos.remote import FeatureCache, RemoteModel, RemotePreparation
from bentos.routes import create_app
from bentos.surface import Probe, Surface
from bentos.wiring import GATEWAY, PREPROCESSOR, service_config

_SETTINGS = get_settings()
_REPOSITORY = ModelRepository(_SETTINGS.repository)
_CARDS = {
    name: _REPOSITORY.card(_REPOSITORY.latest(name))
    for name in load_cards()
    if _REPOSITORY.versions(name)
}

app = create_app()


class FrontDoor:
    """Middleware: every HTTP request goes to our app.

    BentoML answers some paths (`/livez`, `/metrics`, its UI) before a mounted app could, and paths
    that no one has with a page of its own.
    """

    def __init__(self, app: ASGIApp, ours: ASGIApp) -> None:
        self._app = app
        self._ours = ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        await (self._ours if scope["type"] == "http" else self._app)(scope, receive, send)


class _Gateway:
    """Composes the preprocessor and the model runners behind the HTTP surface."""

    preprocessor = bentoml.depends(Preprocessor)

    def _model(self, card: Card) -> RemoteModel:
        runner = getattr(self, runner_name(card)).to_async
        version = _REPOSITORY.latest(card.name).version
        return RemoteModel(card, version, runner_name(card), partial(runner.call, "infer"))

    @bentoml.on_startup
    async def start(self) -> None:
        """Connect the routes with the workers."""
        configure_logs(_SETTINGS)
        prepare = partial(self.preprocessor.to_async.call, "prepare")
        cache = FeatureCache(_SETTINGS.feature_cache_entries)
        near = can_hand_over(self.preprocessor.to_async.url)
        preparation = RemotePreparation(PREPROCESSOR, prepare, cache, hand_over=near)
        uncached = RemotePreparation(PREPROCESSOR, prepare, FeatureCache(0))
        models = {name: self._model(card) for name, card in _CARDS.items()}
        features_card = get_card(DEFAULT_MODEL)
        recording = probe_recording()
        app.state.surface = Surface(
            settings=_SETTINGS,
            admission=_ADMISSION,
            genre=GenrePipeline(preparation, models),
            features=FeaturesPipeline(preparation, features_card),
            models=models,
            repository=_REPOSITORY,
            probes=(
                Probe(PREPROCESSOR, lambda: uncached.prepare(recording, features_card)),
                *(
                    Probe(name, partial(model.infer, probe_inputs(model.card)))
                    for name, model in models.items()
                ),
            ),
            fetch_limits=FetchLimits.from_settings(_SETTINGS),
        )


_ADMISSION = Admission(_SETTINGS.max_in_flight, _SETTINGS.max_queued)
app.add_middleware(Edge, admission=_ADMISSION, max_body_bytes=_SETTINGS.max_upload_bytes)
for _card in _CARDS.values():
    setattr(_Gateway, runner_name(_card), bentoml.depends(model_runner(_card)))

Bandstand = bentoml.service(
    bentoml.asgi_app(app, path="/")(_Gateway),
    name=GATEWAY,
    workers=1,
    image=serving_image(),
    **service_config(_SETTINGS),
)
Bandstand.add_asgi_middleware(FrontDoor, ours=app)
