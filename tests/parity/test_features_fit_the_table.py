"""The features mean what the columns of the GTZAN feature table mean."""

from __future__ import annotations

import csv
from pathlib import Path

import librosa
import numpy as np
import pytest

from bandstand.frontends.librosa_features import FEATURE_NAMES, HOP, SAMPLE_RATE, extract_features

TEMPO = FEATURE_NAMES.index("tempo")


@pytest.fixture(scope="module")
def table(data_dir: Path) -> tuple[list[str], np.ndarray]:
    with (data_dir / "tables" / "gtzan_features_30_sec.csv").open(encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    return columns, np.array([row[2:-1] for row in rows], dtype=np.float64)


def test_names_are_the_columns(table: tuple[list[str], np.ndarray]) -> None:
    assert table[0] == ["filename", "length", *FEATURE_NAMES, "label"]


def test_tempos_are_whole_lags(table: tuple[list[str], np.ndarray]) -> None:
    # A tempo is a whole number of frames a beat: the table's frame rate is ours.
    lags = 60 * SAMPLE_RATE / HOP / table[1][:, TEMPO]
    np.testing.assert_allclose(lags, np.round(lags), atol=1e-9)


def test_real_recordings_lie_among_the_rows(
    table: tuple[list[str], np.ndarray], clips: list[Path]
) -> None:
    lowest, highest = table[1].min(axis=0), table[1].max(axis=0)
    for path in clips:
        samples, _ = librosa.load(path, sr=SAMPLE_RATE, duration=10.0)
        if len(samples) < 10 * SAMPLE_RATE:
            continue  # the rows are of longer clips
        features = extract_features(samples)
        # A third of the range beyond it: another recording may be somewhat softer or brighter than
        # a thousand others, a feature in another unit would be elsewhere.
        margin = (highest - lowest) / 3
        outside = (features < lowest - margin) | (features > highest + margin)
        assert [FEATURE_NAMES[i] for i in np.flatnonzero(outside)] == [], path.name
