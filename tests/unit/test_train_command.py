"""`bandstand train table`: a table becomes a model that answers, the same one each time."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from bandstand_cli.app import app
from bandstand_cli.train_display import report_of
from bandstand_training.evaluation import divide
from bandstand_training.genre_classifier import GenreClassifier
from bandstand_training.own_model import train_on_table
from bandstand_training.table import read_table
from tests.feature_tables import feature_rows, label_rows, write_csv
from tests.genre_models import CLASSES, QUICK, small_table

TABLE = small_table(rows_per_class=16)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Write the features, and their labels in another file."""
    features = write_csv(tmp_path / "features.csv", feature_rows(TABLE))
    return features, write_csv(tmp_path / "labels.csv", label_rows(TABLE))


def train(*arguments: str | Path) -> str:
    quick = ["--epochs", "8", "--folds", "2"]
    result = CliRunner().invoke(
        app, ["train", "table", *map(str, arguments), *quick], env={"COLUMNS": "80"}
    )
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_a_table_becomes_a_model_that_answers(files: tuple[Path, Path], tmp_path: Path) -> None:
    features, labels = files
    out = tmp_path / "out"
    output = train(features, "--labels", labels, "--name", "mine", "--out", out)
    for told in ("48 clips, 3 labels, 24 groups by artist", "accuracy", "weighted F1"):
        assert told in output
    classifier = GenreClassifier(out / "mine-v1.safetensors")
    info = classifier.info()
    assert info.labels == CLASSES
    (quality,) = info.quality
    assert quality.protocol.endswith("each artist in one fold")
    assert quality.examples == len(TABLE.labels)
    assert f"{100 * quality.accuracy:.1f} %" in output
    right = [
        answer.label == TABLE.classes[label]
        for answer, label in zip(
            classifier.predict_batch(TABLE.features), TABLE.labels, strict=True
        )
    ]
    assert np.mean(right) > 0.8


def test_the_confusion_matrix_counts_every_clip_once(files: tuple[Path, Path]) -> None:
    features, labels = files
    trained = train_on_table(
        read_table(features, labels=labels), QUICK, name="mine", fitted_to="a table", folds=2
    )
    np.testing.assert_array_equal(trained.confusion.sum(axis=1), [16, 16, 16])
    assert trained.confusion.trace() / 48 == pytest.approx(trained.quality.accuracy, abs=1e-4)


def test_the_same_seed_gives_the_same_file_and_none_is_replaced(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    features, labels = files
    for seed in ("3", "3", "4"):
        train(features, "--labels", labels, "--seed", seed, "--out", tmp_path)
    first, again, other = (
        (tmp_path / f"my_genres-v{n}.safetensors").read_bytes() for n in (1, 2, 3)
    )
    assert first == again
    assert first != other


def test_artists_are_on_one_side_of_each_fold_and_classes_on_both(
    files: tuple[Path, Path],
) -> None:
    features, labels = files
    table = read_table(features, labels=labels)
    assert table.groups is not None
    groups = np.array(table.groups)
    seen: list[int] = []
    for fitted, measured in divide(table, 4, seed=0):
        assert set(groups[fitted]).isdisjoint(groups[measured])
        assert set(table.labels[fitted]) == set(table.labels[measured]) == {0, 1, 2}
        seen += measured.tolist()
    assert sorted(seen) == list(range(48))


def test_without_artists_the_report_warns_and_says_so_in_the_checkpoint(tmp_path: Path) -> None:
    rows = [
        features | {"label": told["label"]}
        for features, told in zip(feature_rows(TABLE), label_rows(TABLE), strict=True)
    ]
    # Spreadsheets write a mark before UTF-8.
    path = write_csv(tmp_path / "table.csv", rows, encoding="utf-8-sig")
    assert "clips of one artist can be on both sides" in train(path, "--out", tmp_path)
    (quality,) = GenreClassifier(tmp_path / "my_genres-v1.safetensors").info().quality
    assert "flatters" in quality.note


def test_labels_and_groups_are_taken_from_the_columns_that_are_named(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    features, _ = files
    told = [
        {"filename": row["path"], "mood": ("sad", "happy")[i % 2], "album": i % 10, "artist": "one"}
        for i, row in enumerate(label_rows(TABLE))
    ]
    labels = write_csv(tmp_path / "moods.csv", told)
    table = read_table(features, labels=labels, label_column="mood", group_column="album")
    assert table.classes == ("happy", "sad")
    assert table.groups == tuple(str(i % 10) for i in range(48))


def test_classes_of_one_row_to_fit_to_give_a_model_all_the_same(tmp_path: Path) -> None:
    two = small_table(rows_per_class=2)
    rows = [f | t for f, t in zip(feature_rows(two), label_rows(two), strict=True)]
    train(write_csv(tmp_path / "table.csv", rows), "--out", tmp_path)
    answer = GenreClassifier(tmp_path / "my_genres-v1.safetensors").predict(two.features[0])
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("width", "times", "wanted"),
    [(80, 1, r"3 metal +69 % +5 +0 +11"), (40, 1000, r"metal +classical +5000 +16000")],
    ids=["matrix", "largest errors"],
)
def test_the_report_fits_the_terminal(
    files: tuple[Path, Path], width: int, times: int, wanted: str
) -> None:
    features, labels = files
    table = read_table(features, labels=labels)
    trained = train_on_table(table, QUICK, name="mine", fitted_to="a table", folds=2)
    trained.confusion[:] = times * np.array([[14, 2, 0], [0, 16, 0], [5, 0, 11]])
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(report_of(trained, table))
    told = console.export_text()
    assert max(map(len, told.splitlines())) <= width
    line = next(line for line in told.splitlines() if "metal" in line)
    assert re.match(wanted, line), told
