"""Training of the embedded genre model `genre_features`, and its measurement."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from bandstand.settings import get_settings
from bandstand_training.checkpoint import Checkpoint, CheckpointMetadata
from bandstand_training.evaluation import (
    FOLDS,
    cross_validate,
    fit_and_watch,
    fit_on_split,
    measure_on_test,
)
from bandstand_training.fit import FitSettings
from bandstand_training.table import read_split, read_table

NAME = "genre_features"
FITTED_TO = (
    "GTZAN: the train and valid lists of the fault-filtered split, 640 clips of 30 s, as the 57 "
    "librosa features of its public feature table"
)
DEFAULT_OUT = Path(__file__).with_name("checkpoints")

Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
"""Takes a title and a number of epochs; yields a function to call after each epoch."""


def default_tables() -> Path:
    """Return the folder where the feature table and the lists of the split are expected."""
    return get_settings().data_dir / "tables"


def train_genre_features(
    table_path: Path, splits: Path, settings: FitSettings, progress: Progress
) -> tuple[Checkpoint, float]:
    """Fit to the train and valid lists; measure on the test list and by random folds.

    Args:
        table_path: GTZAN's feature table.
        splits: the folder of the lists of the fault-filtered split.
        settings: of the fit; the defaults are those of the embedded model.
        progress: called for each part.

    Returns:
        The model with both measurements, and the accuracy on the valid list of a model fitted to
        the train list alone: the figure to choose settings by.

    Raises:
        UnusableRequestError: the table or a list cannot be used.
    """
    table, split = read_table(table_path), read_split(splits)
    with progress("train list", settings.epochs) as step:
        _, seen = fit_and_watch(table, split, settings, on_epoch=step)
    with progress("train and valid lists", settings.epochs) as step:
        fitted = fit_on_split(table, split, settings, on_epoch=step)
    with progress(f"random {FOLDS}-fold", FOLDS * settings.epochs) as step:
        random_folds = cross_validate(table, settings, on_epoch=step)
    metadata = CheckpointMetadata(
        name=NAME,
        labels=table.classes,
        feature_names=table.feature_names,
        members=settings.members,
        fitted_to=FITTED_TO,
        epochs=fitted.epochs,
        seed=settings.seed,
        quality=(measure_on_test(fitted.model, table, split), random_folds),
    )
    return Checkpoint(fitted.model, metadata), seen.accuracy
