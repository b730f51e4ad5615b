"""One batched runner a model, made from its card."""

from __future__ import annotations

from dataclasses import asdict

import bentoml
import numpy as np

from bandstand.models.card import Card
from bandstand.models.repository import ModelRepository
from bandstand.runners.base import Array
from bandstand.runners.batching import MicroBatcher
from bandstand.runners.load import load_runner
from bandstand.settings import get_settings
from bandstand.telemetry import BATCH_QUEUE_SECONDS, BATCH_ROWS, INFERENCE_SECONDS
from bentos.wiring import service_config
from bentos.worker import Arrays, Block, Facts, RefusePickles, answer, client_waits, start_worker

_SETTINGS = get_settings()


def runner_name(card: Card) -> str:
    """Return the BentoML service name of a card's runner."""
    return f"runner_{card.name}"


def probe_inputs(card: Card) -> dict[str, Array]:
    """Return one window of silence: the smallest batch the model answers."""
    return {t.name: np.zeros((1, *t.shape), t.dtype) for t in card.inputs}


class _ModelRunner:
    """Loads one model and answers batches of windows; callers share its batches."""

    card: Card

    def __init__(self) -> None:
        repository = ModelRepository(_SETTINGS.repository)
        installed = repository.latest(self.card.name)
        self._version = installed.version
        self.card = repository.card(installed)  # with the labels that came with the checkpoint
        self._runner = load_runner(
            self.card,
            installed.model_path,
            runtime=_SETTINGS.runtime,
            precision=_SETTINGS.precision,
            threads=_SETTINGS.threads_per_runner,
        )
        self._batcher = MicroBatcher(
            self._runner.run,
            max_size=self.card.batch.max_size,
            max_delay_ms=self.card.batch.max_delay_ms,
            on_batch=self._observe,
        )

    def _observe(self, rows: int, seconds: float, queued_seconds: float) -> None:
        BATCH_ROWS.labels(self.card.name).observe(rows)
        INFERENCE_SECONDS.labels(self.card.name).observe(seconds)
        BATCH_QUEUE_SECONDS.labels(self.card.name).observe(queued_seconds)

    @bentoml.on_startup
    async def warm_up(self) -> None:
        """Run the smallest and the largest batch before the first request comes."""
        start_worker(_SETTINGS)
        smallest = probe_inputs(self.card)
        self._runner.run(smallest)
        size = self.card.batch.max_size
        self._runner.run({name: np.repeat(a, size, axis=0) for name, a in smallest.items()})

    @bentoml.on_shutdown
    async def shut_down(self) -> None:
        """Finish what was begun and let the model go."""
        await self._batcher.aclose()
        self._runner.close()

    @bentoml.api(input_spec=Block, output_spec=Block)
    async def infer(self, block: bytes, /, ctx: bentoml.Context) -> bytes:
        """Answer one batch.

        Args:
            block: an array per model input, batch axis first.
            ctx: the request, to notice a caller that hung up.
        """
        still_wanted = client_waits(ctx)

        async def work(arrays: Arrays, _facts: Facts) -> tuple[Arrays, Facts]:
            outputs = await self._batcher.submit(arrays, still_wanted=still_wanted)
            return outputs, {"version": self._version, "runner": asdict(self._runner.info)}

        return await answer(block, work)


def model_runner(card: Card) -> bentoml.Service:
    """Make the BentoML service that runs one card's model: one process, one batcher."""
    inner = type(f"Runner_{card.name}", (_ModelRunner,), {"card": card})
    service = bentoml.service(inner, name=runner_name(card), workers=1, **service_config(_SETTINGS))
    service.add_asgi_middleware(RefusePickles)
    return service
