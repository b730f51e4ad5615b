"""The feature table and its split: one row a clip, named by its file."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bandstand.errors import UnusableRequestError
from bandstand.frontends.librosa_features import FEATURE_NAMES

CLIP_COLUMN = "filename"
LABEL_COLUMN = "label"


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Features and genres of many clips.

    Attributes:
        clips: the file name of each row.
        feature_names: what the columns of `features` are.
        features: `(rows, features)`, float64, finite.
        labels: `(rows,)`, int64, positions in `classes`.
        classes: the genres, in alphabetical order.
    """

    clips: tuple[str, ...]
    feature_names: tuple[str, ...]
    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def rows_of(self, clips: Iterable[str]) -> NDArray[np.int64]:
        """Return the positions of those clips, in their order.

        Raises:
            UnusableRequestError: a clip is not in the table.
        """
        position = {clip: row for row, clip in enumerate(self.clips)}
        try:
            return np.array([position[clip] for clip in clips], dtype=np.int64)
        except KeyError as error:
            raise UnusableRequestError(f"the table has no row for {error}") from None


@dataclass(frozen=True, slots=True)
class Split:
    """The clips (file names) of the three parts of a split that keeps artists apart."""

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]


def read_table(path: Path) -> FeatureTable:
    """Read a CSV with the columns `filename`, the 57 features by name, and `label`.

    Raises:
        UnusableRequestError: no such file, a column is missing, a number is none, or no rows.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise UnusableRequestError(f"could not read the feature table {path}: {error}") from error
    if not rows:
        raise UnusableRequestError(f"{path} has no rows")
    missing = {CLIP_COLUMN, LABEL_COLUMN, *FEATURE_NAMES} - rows[0].keys()
    if missing:
        raise UnusableRequestError(f"{path} lacks the columns {sorted(missing)}")
    classes = tuple(sorted({row[LABEL_COLUMN] for row in rows}))
    return FeatureTable(
        clips=tuple(row[CLIP_COLUMN] for row in rows),
        feature_names=FEATURE_NAMES,
        features=_numbers(path, rows),
        labels=np.array([classes.index(row[LABEL_COLUMN]) for row in rows], dtype=np.int64),
        classes=classes,
    )


def _numbers(path: Path, rows: list[dict[str, str]]) -> NDArray[np.float64]:
    values = np.empty((len(rows), len(FEATURE_NAMES)))
    for i, row in enumerate(rows):
        try:
            values[i] = [float(row[name]) for name in FEATURE_NAMES]
        except (TypeError, ValueError) as error:
            raise UnusableRequestError(f"{path}, row {i + 1}: {error}") from None
        if not np.isfinite(values[i]).all():
            raise UnusableRequestError(f"{path}, row {i + 1}: a feature is not finite")
    return values


def read_split(directory: Path) -> Split:
    """Read `gtzan_{train,valid,test}_filtered.txt`, one file name a line, folders ignored.

    Raises:
        UnusableRequestError: a list is missing or empty, or a clip is in two of them.
    """
    parts = {part: _read_list(directory / f"gtzan_{part}_filtered.txt") for part in Split.__slots__}
    clips = [clip for part in parts.values() for clip in part]
    if len(clips) != len(set(clips)):
        raise UnusableRequestError(f"a clip stands twice in the lists of {directory}")
    return Split(**parts)


def _read_list(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UnusableRequestError(f"could not read the split list {path}: {error}") from error
    clips = tuple(Path(line.strip()).name for line in lines if line.strip())
    if not clips:
        raise UnusableRequestError(f"the split list {path} is empty")
    return clips
