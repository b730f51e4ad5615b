"""How good a way of fitting is, by two protocols; the second is the honest one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bandstand_client.contract.models import Quality
from bandstand_training.fit import FitSettings, Fitted, Rows, fit, logits_of
from bandstand_training.genre_network import GenreModel
from bandstand_training.table import FeatureTable, Split

FOLDS = 10
RANDOM_FOLDS = f"random stratified {FOLDS}-fold cross-validation"
RANDOM_FOLDS_NOTE = (
    "Flattering: random splits leak artists and duplicates from the training rows into those "
    "measured. For comparison with others' figures only; the weights are not those that ship."
)
FAULT_FILTERED = "fault-filtered split, test list"
FAULT_FILTERED_NOTE = (
    "The shipped weights on artists they never saw: faulty clips and duplicates left out, artists "
    "kept apart, fitted to the train and valid lists."
)

VALID_LIST = "fault-filtered split, valid list"
VALID_LIST_NOTE = "Fitted to the train list; the epoch was chosen by these very rows."


def cross_validate(
    table: FeatureTable,
    settings: FitSettings,
    *,
    folds: int = FOLDS,
    on_epoch: Callable[[], None] = lambda: None,
) -> Quality:
    """Measure over random stratified folds; every row is predicted once, by a model without it."""
    from sklearn.model_selection import StratifiedKFold

    chosen = np.empty_like(table.labels)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=settings.seed)
    for train, test in splitter.split(table.features, table.labels):
        fitted = fit(table, train, settings, on_epoch=on_epoch)
        chosen[test] = logits_of(fitted.model, table.features[test]).argmax(axis=1)
    return _quality(RANDOM_FOLDS, RANDOM_FOLDS_NOTE, table.labels, chosen)


def fit_and_watch(
    table: FeatureTable,
    split: Split,
    settings: FitSettings,
    *,
    on_epoch: Callable[[], None] = lambda: None,
) -> tuple[Fitted, Quality]:
    """Fit to the train list, keep the epoch that is best on the valid list, and measure it there.

    For choosing settings: the measurement is of rows that the epoch was chosen by.
    """
    train, valid = table.rows_of(split.train), table.rows_of(split.valid)
    fitted = fit(table, train, settings, watch=valid, on_epoch=on_epoch)
    chosen = logits_of(fitted.model, table.features[valid]).argmax(axis=1)
    return fitted, _quality(VALID_LIST, VALID_LIST_NOTE, table.labels[valid], chosen)


def fit_on_split(
    table: FeatureTable,
    split: Split,
    settings: FitSettings,
    *,
    on_epoch: Callable[[], None] = lambda: None,
) -> Fitted:
    """Fit to the train and valid lists, for as many epochs as the settings say."""
    rows = table.rows_of((*split.train, *split.valid))
    return fit(table, rows, settings, on_epoch=on_epoch)


def measure_on_test(model: GenreModel, table: FeatureTable, split: Split) -> Quality:
    """Measure a model of `fit_on_split` on the test list."""
    rows: Rows = table.rows_of(split.test)
    chosen = logits_of(model, table.features[rows]).argmax(axis=1)
    return _quality(FAULT_FILTERED, FAULT_FILTERED_NOTE, table.labels[rows], chosen)


def _quality(
    protocol: str, note: str, wanted: NDArray[np.int64], chosen: NDArray[np.int64]
) -> Quality:
    from sklearn.metrics import accuracy_score, f1_score

    return Quality(
        protocol=protocol,
        accuracy=round(float(accuracy_score(wanted, chosen)), 4),
        weighted_f1=round(float(f1_score(wanted, chosen, average="weighted")), 4),
        examples=len(wanted),
        note=note,
    )
