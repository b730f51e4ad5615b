"""Measurement of models by several protocols; random splits give too high figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bandstand.errors import UnusableRequestError
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
    """Measure over random stratified folds; each row is predicted by a model fitted without it."""
    divided = divide(replace(table, groups=None), folds, settings.seed)
    chosen = choose_by_folds(table, settings, divided, on_epoch=on_epoch)
    return quality_of(RANDOM_FOLDS, RANDOM_FOLDS_NOTE, table.labels, chosen)


def divide(table: FeatureTable, folds: int, seed: int) -> list[tuple[Rows, Rows]]:
    """Return the rows to fit to and those to measure on, fold by fold, classes spread evenly.

    A table with groups has each of them in one fold only.

    Raises:
        UnusableRequestError: there is one class only, or a class has fewer rows, or groups, than
            there are folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    _check_folds(table, folds)
    splitter = StratifiedKFold if table.groups is None else StratifiedGroupKFold
    divided = splitter(folds, shuffle=True, random_state=seed)
    return list(divided.split(table.features, table.labels, table.groups))


def _check_folds(table: FeatureTable, folds: int) -> None:
    if len(table.classes) < 2:  # noqa: PLR2004
        raise UnusableRequestError(
            f"every row has the label {table.classes[0]!r}: at least two labels are needed"
        )
    what = "rows" if table.groups is None else f"different values of {table.group_column}"
    units = table.clips if table.groups is None else table.groups
    for position, name in enumerate(table.classes):
        own = {unit for unit, label in zip(units, table.labels, strict=True) if label == position}
        if len(own) < folds:
            raise UnusableRequestError(
                f"the label {name!r} has {len(own)} {what}, and {folds} folds need {folds}: add "
                "some, leave the label out, or take fewer folds (2 at least)"
            )


def choose_by_folds(
    table: FeatureTable,
    settings: FitSettings,
    divided: Sequence[tuple[Rows, Rows]],
    *,
    on_epoch: Callable[[], None] = lambda: None,
) -> NDArray[np.int64]:
    """Return the predicted class of each row, `(rows,)`, by a model fitted without it."""
    chosen = np.empty_like(table.labels)
    for train, test in divided:
        fitted = fit(table, train, settings, on_epoch=on_epoch)
        chosen[test] = logits_of(fitted.model, table.features[test]).argmax(axis=1)
    return chosen


def fit_and_watch(
    table: FeatureTable,
    split: Split,
    settings: FitSettings,
    *,
    on_epoch: Callable[[], None] = lambda: None,
) -> tuple[Fitted, Quality]:
    """Fit to the train list, keep the epoch that is best on the valid list, and measure it there.

    Use it to choose settings: the measured rows also choose the epoch.
    """
    train, valid = table.rows_of(split.train), table.rows_of(split.valid)
    fitted = fit(table, train, settings, watch=valid, on_epoch=on_epoch)
    chosen = logits_of(fitted.model, table.features[valid]).argmax(axis=1)
    return fitted, quality_of(VALID_LIST, VALID_LIST_NOTE, table.labels[valid], chosen)


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
    return quality_of(FAULT_FILTERED, FAULT_FILTERED_NOTE, table.labels[rows], chosen)


def quality_of(
    protocol: str, note: str, wanted: NDArray[np.int64], chosen: NDArray[np.int64]
) -> Quality:
    """Compare predicted classes with the labels, both `(rows,)`."""
    from sklearn.metrics import accuracy_score, f1_score

    return Quality(
        protocol=protocol,
        accuracy=round(float(accuracy_score(wanted, chosen)), 4),
        weighted_f1=round(float(f1_score(wanted, chosen, average="weighted")), 4),
        examples=len(wanted),
        note=note,
    )
