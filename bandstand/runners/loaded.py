"""An installed model, loaded in this process behind a micro-batcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bandstand.models.card import Card
from bandstand.models.installed import InstalledModel
from bandstand.runners.base import Array, Runner
from bandstand.runners.batching import ClientWaits, MicroBatcher
from bandstand.runners.load import load_runner
from bandstand.settings import Settings

OnBatch = Callable[[int, float, float], None]

_MAX_ROWS_ON_CPU = 16
"""In one call. More rows were faster for no measured network, and buffers grow with the rows."""


def probe_inputs(card: Card) -> dict[str, Array]:
    """Return one window of silence, the smallest batch."""
    return {t.name: np.zeros((1, *t.shape), t.dtype) for t in card.inputs}


class LoadedModel:
    """One loaded version of one model; callers share its batches.

    Args:
        card: the card, with the labels of that version.
        version: its number.
        runner: computes its batches.
        on_batch: as in `MicroBatcher`.
    """

    def __init__(
        self, card: Card, version: int, runner: Runner, on_batch: OnBatch | None = None
    ) -> None:
        self.card = card
        self.version = version
        self.runner = runner
        self._max_rows = _max_rows(card, runner.info.device)
        self._batcher = MicroBatcher(
            runner.run,
            max_size=self._max_rows,
            max_delay_ms=card.batch.max_delay_ms,
            on_batch=on_batch,
        )

    @property
    def runtime(self) -> str:
        """The runtime, its version, and its precision."""
        info = self.runner.info
        return f"{info.runtime} {info.runtime_version} {info.precision}"

    def warm_up(self) -> None:
        """Compute the smallest and the largest batch, because first calls are slower."""
        smallest = probe_inputs(self.card)
        self.runner.run(smallest)
        if self._max_rows > 1:
            largest = {n: np.repeat(a, self._max_rows, axis=0) for n, a in smallest.items()}
            self.runner.run(largest)

    async def infer(
        self, inputs: Mapping[str, Array], client_waits: ClientWaits | None = None
    ) -> dict[str, Array]:
        """Compute one batch; see `MicroBatcher.submit`."""
        return await self._batcher.submit(dict(inputs), client_waits)

    async def aclose(self) -> None:
        """Finish the queued batches and close the model."""
        await self._batcher.aclose()
        self.runner.close()


def _max_rows(card: Card, device: str) -> int:
    """Return how many rows are computed in one call."""
    if device != "cpu":
        return card.batch.max_size
    if card.batch.one_by_one_on_cpu:
        return 1  # so that each answer is sent when its row is computed
    return min(card.batch.max_size, _MAX_ROWS_ON_CPU)


def load_model(
    installed: InstalledModel, settings: Settings, on_batch: OnBatch | None = None
) -> LoadedModel:
    """Load one installed version with the runtime of the settings.

    Raises:
        UnavailableError: the runtime is not available.
        ModelMismatchError: card or file is missing or damaged, or they do not match.
    """
    card = installed.card()
    runner = load_runner(
        card,
        installed.model_path,
        runtime=settings.runtime,
        precision=settings.precision,
        threads=settings.threads_per_runner,
    )
    return LoadedModel(card, installed.version, runner, on_batch)
