"""Feature tables as CSV files, for tests of training."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from bandstand_training.table import FeatureTable

CsvRow = dict[str, object]


def feature_rows(table: FeatureTable) -> list[CsvRow]:
    """Return the rows that `bandstand features --csv` would have written."""
    return [
        {"path": clip, **dict(zip(table.feature_names, row, strict=True))}
        for clip, row in zip(table.clips, table.features.tolist(), strict=True)
    ]


def label_rows(table: FeatureTable, artists_a_label: int = 8) -> list[CsvRow]:
    """Return rows that name each clip's label and artist."""
    return [
        {
            "path": clip,
            "label": table.classes[label],
            "artist": f"{label}.{i % artists_a_label}",
        }
        for i, (clip, label) in enumerate(zip(table.clips, table.labels.tolist(), strict=True))
    ]


def write_csv(path: Path, rows: Iterable[Mapping[str, object]], encoding: str = "utf-8") -> Path:
    """Write rows under the columns of the first one."""
    rows = list(rows)
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
