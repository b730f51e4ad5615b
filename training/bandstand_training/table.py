"""The feature table and its split: one row for each clip, with the name of its file."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bandstand.errors import UnusableRequestError
from bandstand.frontends.librosa_features import FEATURE_NAMES

CLIP_COLUMNS = ("filename", "path")
"""Possible names of the column of clips; `bandstand features --csv` writes `path`."""
LABEL_COLUMN = "label"
GROUP_COLUMNS = ("group", "artist")
"""Possible names of the column of groups; the first that exists is used."""

Row = dict[str, str]

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Features and genres of many clips.

    Attributes:
        clips: the file name of each row.
        feature_names: of the columns of `features`.
        features: `(rows, features)`, float64, finite.
        labels: `(rows,)`, int64, positions in `classes`.
        classes: the genres, in alphabetical order.
        groups: the group of each row, such as an artist; None: unknown.
        group_column: the name of their column.
    """

    clips: tuple[str, ...]
    feature_names: tuple[str, ...]
    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    group_column: str | None = None

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


def read_table(
    path: Path,
    *,
    labels: Path | None = None,
    label_column: str = LABEL_COLUMN,
    group_column: str | None = None,
) -> FeatureTable:
    """Read a CSV with the names of clips, the 57 features by name, and a label.

    Args:
        path: columns `filename` or `path`, and the features; others are ignored.
        labels: another CSV, with the same names of clips and their labels; None: the table has
            labels.
        label_column: name of the label's column, in either file.
        group_column: name of the groups' column; None: one of `GROUP_COLUMNS`, if there is one.

    Raises:
        UnusableRequestError: no such file, a column is missing, a number is none, a clip has no
            label or occurs twice, or there are no rows.
    """
    rows = _read_rows(path)
    columns = rows[next(iter(rows))]
    missing = [name for name in FEATURE_NAMES if name not in columns]
    if missing:
        raise UnusableRequestError(
            f"{path} lacks {len(missing)} of {len(FEATURE_NAMES)} feature columns: "
            f"{_some(missing)} (`bandstand features --csv` writes them all)"
        )
    if labels is not None:
        rows = _joined(path, rows, labels)
    where = path if labels is None else labels
    genres = _column(where, rows, label_column)
    group_column = _group_column(rows, group_column)
    classes = tuple(sorted(set(genres)))
    return FeatureTable(
        clips=tuple(rows),
        feature_names=FEATURE_NAMES,
        features=_numbers(path, rows),
        labels=np.array([classes.index(genre) for genre in genres], dtype=np.int64),
        classes=classes,
        groups=None if group_column is None else _column(where, rows, group_column),
        group_column=group_column,
    )


def _read_rows(path: Path) -> dict[str, Row]:
    """Return the rows of a CSV by their clips."""
    try:
        # Spreadsheets write a byte order mark, which would become part of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            # A line that is too long has its surplus under None; one too short has None as values.
            rows = [
                {name: cell or "" for name, cell in row.items() if name is not None}
                for row in csv.DictReader(file, strict=True)
            ]
    except (OSError, ValueError, csv.Error) as error:
        raise UnusableRequestError(f"could not read the table {path}: {error}") from error
    if not rows:
        raise UnusableRequestError(f"{path} has no rows")
    named = next((name for name in CLIP_COLUMNS if name in rows[0]), None)
    if named is None:
        raise UnusableRequestError(
            f"{path} lacks a column {' or '.join(CLIP_COLUMNS)}, which names the clips; it has: "
            f"{_some(list(rows[0]))} (columns are separated by commas)"
        )
    by_clip = {row[named]: row for row in rows}
    if len(by_clip) < len(rows):
        twice = Counter(row[named] for row in rows).most_common(1)[0][0]
        raise UnusableRequestError(f"{path}: the clip {twice!r} occurs twice")
    return by_clip


def _joined(path: Path, rows: Mapping[str, Row], labels: Path) -> dict[str, Row]:
    """Return the rows with the other columns of the rows that have the same clips in `labels`."""
    others = _read_rows(labels)
    without = [clip for clip in rows if clip not in others]
    if without:
        raise UnusableRequestError(
            f"{len(without)} of {len(rows)} clips of {path} have no row in {labels}: "
            f"{_some(without)}; the names must be equal"
        )
    return {
        clip: row | {name: cell for name, cell in others[clip].items() if name not in FEATURE_NAMES}
        for clip, row in rows.items()
    }


def _group_column(rows: Mapping[str, Row], wanted: str | None) -> str | None:
    if wanted is not None:
        return wanted
    columns = rows[next(iter(rows))]
    return next((name for name in GROUP_COLUMNS if name in columns), None)


def _column(path: Path, rows: Mapping[str, Row], name: str) -> tuple[str, ...]:
    """Return a column of words.

    Raises:
        UnusableRequestError: it is not there, or empty in a row.
    """
    columns = [column for column in rows[next(iter(rows))] if column not in FEATURE_NAMES]
    if name not in columns:
        raise UnusableRequestError(
            f"{path} lacks the column {name!r}; beside features it has: {_some(columns)} "
            "(--label and --group name columns, --labels another file)"
        )
    words = {clip: row[name].strip() for clip, row in rows.items()}
    empty = [clip for clip, word in words.items() if not word]
    if empty:
        raise UnusableRequestError(
            f"{path}: {len(empty)} of {len(rows)} clips have no {name}: {_some(empty)}"
        )
    return tuple(words.values())


def _numbers(path: Path, rows: Mapping[str, Row]) -> NDArray[np.float64]:
    values = np.empty((len(rows), len(FEATURE_NAMES)))
    for i, (clip, row) in enumerate(rows.items()):
        for j, name in enumerate(FEATURE_NAMES):
            try:
                values[i, j] = float(row[name])
            except ValueError:
                values[i, j] = np.nan
            if not np.isfinite(values[i, j]):
                raise UnusableRequestError(
                    f"{path}, row {i + 1} ({clip}): {name} is {row[name]!r}, not a finite number; "
                    "leave the row out, or compute its features again"
                )
    return values


def _some(names: list[str]) -> str:
    """Write the first few of many names."""
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown}, …"


def read_split(directory: Path) -> Split:
    """Read `gtzan_{train,valid,test}_filtered.txt`, one file name a line, folders ignored.

    Raises:
        UnusableRequestError: a list is missing or empty, or a clip is in two of them.
    """
    parts = {part: _read_list(directory / f"gtzan_{part}_filtered.txt") for part in Split.__slots__}
    clips = [clip for part in parts.values() for clip in part]
    if len(clips) != len(set(clips)):
        raise UnusableRequestError(f"a clip occurs twice in the lists of {directory}")
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
