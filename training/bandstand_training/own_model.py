"""A genre model of a user's own feature table: measured by folds, then fitted to every row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandstand_client.contract.models import Quality
from bandstand_training.checkpoint import Checkpoint, CheckpointMetadata
from bandstand_training.evaluation import choose_by_folds, divide, quality_of
from bandstand_training.fit import FitSettings, fit
from bandstand_training.table import FeatureTable

DEFAULT_FOLDS = 5
NOTE = (
    "Every row was measured once, by a model fitted to the other folds; the weights are those of a "
    "last model, fitted to all rows."
)
LEAKS = " Clips of one artist or album may be on both sides of a fold, which flatters."


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted model and its measured quality.

    Attributes:
        checkpoint: to be saved with `save_checkpoint`.
        quality: by cross-validation; the checkpoint's metadata has it too.
        confusion: `(classes, classes)`: labels along the first axis, predictions along the second.
    """

    checkpoint: Checkpoint
    quality: Quality
    confusion: NDArray[np.int64]


def train_on_table(
    table: FeatureTable,
    settings: FitSettings,
    *,
    name: str,
    fitted_to: str,
    folds: int = DEFAULT_FOLDS,
    on_epoch: Callable[[], None] = lambda: None,
) -> Trained:
    """Measure by cross-validation, then fit to all rows; equal arguments give equal weights.

    Args:
        table: the training data; each of its groups stays in one fold.
        settings: of each fit.
        name: of the model, for a card.
        fitted_to: description of the data.
        folds: number of models fitted for the measurement.
        on_epoch: called after each of `(folds + 1) * settings.epochs` epochs.

    Raises:
        UnusableRequestError: see `evaluation.divide`.
        pydantic.ValidationError: `name` is not allowed for a card.
    """
    divided = divide(table, folds, settings.seed)
    chosen = choose_by_folds(table, settings, divided, on_epoch=on_epoch)
    protocol = f"stratified {folds}-fold cross-validation"
    if table.groups is None:
        quality = quality_of(protocol, NOTE + LEAKS, table.labels, chosen)
    else:
        apart = f"{protocol}, each {table.group_column} in one fold"
        quality = quality_of(apart, NOTE, table.labels, chosen)
    fitted = fit(table, np.arange(len(table.labels)), settings, on_epoch=on_epoch)
    metadata = CheckpointMetadata(
        name=name,
        labels=table.classes,
        feature_names=table.feature_names,
        members=settings.members,
        fitted_to=fitted_to,
        epochs=fitted.epochs,
        seed=settings.seed,
        quality=(quality,),
    )
    confusion = np.zeros((len(table.classes),) * 2, dtype=np.int64)
    np.add.at(confusion, (table.labels, chosen), 1)
    return Trained(Checkpoint(fitted.model, metadata), quality, confusion)
