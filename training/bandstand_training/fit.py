"""Fitting a genre model to rows of features."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from bandstand_training.feature_scaler import fit_scaler
from bandstand_training.gain import GainEffect
from bandstand_training.genre_network import GenreModel
from bandstand_training.table import FeatureTable

Rows = NDArray[np.int64]

SMOOTHING = 10
"""Epochs over which the accuracy on watched rows is averaged."""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Settings of a fit; the defaults are those of the embedded model.

    Attributes:
        epochs: largest number of passes over the rows; the learning rate falls to zero (cosine).
        patience: epochs without a better accuracy on the watched rows after which fitting ends.
        members: networks whose logits are averaged.
        gain_db: standard deviation of the random gain of each row in each epoch.
        noise: standard deviation of the noise on scaled features; classes have about 1.
    """

    epochs: int = 120
    patience: int = 40
    members: int = 2
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.1
    gain_db: float = 3.0
    noise: float = 0.5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted model.

    Attributes:
        model: in evaluation mode, with the weights of the best epoch.
        epochs: number of epochs of the fit.
    """

    model: GenreModel
    epochs: int


def fit(
    table: FeatureTable,
    rows: Rows,
    settings: FitSettings,
    *,
    watch: Rows | None = None,
    on_epoch: Callable[[], None] = lambda: None,
) -> Fitted:
    """Fit a model to some rows of a table; the same settings give the same weights.

    Args:
        table: features and labels.
        rows: of the training data.
        settings: of the fit.
        watch: rows that choose the best epoch and the end; none: the last epoch is kept.
        on_epoch: called after each epoch.
    """
    features, labels = table.features[rows], table.labels[rows]
    gain = GainEffect(table.feature_names)
    rng = np.random.default_rng(settings.seed)
    with _reproducible(settings.seed):
        scaler = fit_scaler(features, labels, table.feature_names)
        model = GenreModel(scaler, len(table.classes), settings.members)
        optimizer = torch.optim.AdamW(
            model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
        targets = torch.from_numpy(labels)
        keeper = _BestKeeper(model, table, watch, settings.patience)
        for _ in range(settings.epochs):
            gains = rng.normal(0.0, settings.gain_db, len(rows))
            amplified = torch.from_numpy(gain(features, gains)).float()
            order = torch.from_numpy(rng.permutation(len(rows)))
            _one_epoch(model, optimizer, amplified[order], targets[order], settings)
            schedule.step()
            on_epoch()
            if keeper.should_stop():
                break
        return Fitted(keeper.best().eval(), keeper.best_epoch)


def logits_of(model: GenreModel, features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the logits `(n, classes)` of unscaled features `(n, features)`."""
    with torch.inference_mode():
        logits: NDArray[np.float32] = model.eval()(
            torch.from_numpy(np.asarray(features, dtype=np.float32))
        ).numpy()
    return logits


def _one_epoch(
    model: GenreModel,
    optimizer: torch.optim.Optimizer,
    features: Tensor,
    targets: Tensor,
    settings: FitSettings,
) -> None:
    """Run over all rows once."""
    model.train()
    scaled = model.scaler(features)
    scaled = scaled + settings.noise * torch.randn_like(scaled)
    for start in range(0, len(targets), settings.batch_size):
        batch = scaled[start : start + settings.batch_size]
        wanted = targets[start : start + settings.batch_size]
        logits = model.member_logits(batch)  # the networks are independent: their losses are summed
        loss = settings.members * cross_entropy(
            logits.flatten(0, 1),
            wanted.repeat(settings.members),
            label_smoothing=settings.label_smoothing,
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


class _BestKeeper:
    """Keeps the weights of the epoch with the best accuracy on the watched rows.

    The accuracy is the mean over the last `SMOOTHING` epochs: for a few hundred rows, that of one
    epoch depends mostly on chance.
    """

    def __init__(
        self, model: GenreModel, table: FeatureTable, watch: Rows | None, patience: int
    ) -> None:
        self._model, self._table, self._watch, self._patience = model, table, watch, patience
        self._kept: dict[str, Tensor] | None = None
        self._recent: deque[float] = deque(maxlen=SMOOTHING)
        self._highest = -1.0
        self._epoch = 0
        self.best_epoch = 0

    def should_stop(self) -> bool:
        """Evaluate the model after an epoch; return whether to stop."""
        self._epoch += 1
        if self._watch is None:
            self.best_epoch = self._epoch
            return False
        chosen = logits_of(self._model, self._table.features[self._watch]).argmax(axis=1)
        self._recent.append(float(np.mean(chosen == self._table.labels[self._watch])))
        accuracy = float(np.mean(self._recent))
        if accuracy > self._highest:
            self._highest, self.best_epoch = accuracy, self._epoch
            self._kept = copy.deepcopy(self._model.state_dict())
        return self._epoch - self.best_epoch >= self._patience

    def best(self) -> GenreModel:
        """Return the model with the best weights."""
        if self._kept is not None:
            self._model.load_state_dict(self._kept)
        return self._model


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seed torch, on one thread (sums in one order; networks this small gain nothing by more)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
