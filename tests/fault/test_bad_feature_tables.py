"""Unusable tables are refused with a clear message, before a model is fitted."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bandstand.errors import UnusableRequestError
from bandstand_cli.app import app
from bandstand_training.evaluation import divide
from bandstand_training.table import FeatureTable, read_table
from tests.feature_tables import CsvRow, feature_rows, label_rows, write_csv
from tests.genre_models import small_table

TABLE = small_table(rows_per_class=4)


def rows() -> list[CsvRow]:
    """Return good rows that have their labels and artists themselves."""
    pairs = zip(feature_rows(TABLE), label_rows(TABLE), strict=True)
    return [features | told for features, told in pairs]


def without(column: str) -> list[CsvRow]:
    return [{name: cell for name, cell in row.items() if name != column} for row in rows()]


def changed(column: str, value: object, row: int = 2) -> list[CsvRow]:
    content = rows()
    content[row][column] = value
    return content


BAD = {
    "no clips": (without("path"), r"lacks a column filename or path"),
    "no label": (without("label"), r"lacks the column 'label'.*artist.*--labels"),
    "no feature": (without("tempo"), r"lacks 1 of 57 feature columns: tempo .*features --csv"),
    "nan": (changed("tempo", "nan"), r"row 3 \(classical\.00002\.wav\): tempo is 'nan'"),
    "infinite": (changed("tempo", "-inf"), r"tempo is '-inf'"),
    "empty": (changed("rms_mean", ""), r"rms_mean is ''"),
    "words": (changed("rms_mean", "loud"), r"rms_mean is 'loud'"),
    "empty label": (changed("label", " "), r"1 of 12 clips have no label: classical\.00002"),
    "empty artist": (changed("artist", ""), r"1 of 12 clips have no artist"),
    "twice": (changed("path", "classical.00000.wav"), r"'classical\.00000\.wav' occurs twice"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name: str, tmp_path: Path) -> None:
    content, words = BAD[name]
    with pytest.raises(UnusableRequestError, match=words):
        read_table(write_csv(tmp_path / "table.csv", content))


@pytest.mark.parametrize("content", [b"", b"path,label\n", b"\xff\xfe\x00", b'path\n"a\n'])
def test_files_that_are_no_tables_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(UnusableRequestError, match=r"table\.csv"):
        read_table(path)


def test_lines_of_other_lengths_are_refused_and_not_shifted(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "table.csv", rows())
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], "song.wav,1.0", *lines[4:]]))
    with pytest.raises(UnusableRequestError, match=r"1 of 12 clips have no label: song\.wav"):
        read_table(path)


def test_a_wanted_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "table.csv", rows())
    with pytest.raises(UnusableRequestError, match="'mood'"):
        read_table(path, label_column="mood")
    with pytest.raises(UnusableRequestError, match="'album'"):
        read_table(path, group_column="album")
    with pytest.raises(UnusableRequestError, match="'tempo'"):
        read_table(path, label_column="tempo")


def test_clips_without_a_row_of_labels_are_counted_and_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "table.csv", feature_rows(TABLE))
    labels = write_csv(tmp_path / "labels.csv", label_rows(TABLE)[:-2])
    with pytest.raises(UnusableRequestError, match=r"2 of 12 clips .*metal\.00010\.wav"):
        read_table(path, labels=labels)


def read(tmp_path: Path, content: list[CsvRow]) -> FeatureTable:
    return read_table(write_csv(tmp_path / "table.csv", content))


def test_one_label_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    table = read(tmp_path, rows()[:4])
    with pytest.raises(UnusableRequestError, match="every row has the label 'classical'"):
        divide(table, 2, 0)


def test_fewer_rows_of_a_label_than_folds(tmp_path: Path) -> None:
    table = read(tmp_path, without("artist"))
    with pytest.raises(UnusableRequestError, match="'classical' has 4 rows, and 5 folds need 5"):
        divide(table, 5, 0)
    assert len(divide(table, 4, 0)) == 4


def test_fewer_artists_of_a_label_than_folds(tmp_path: Path) -> None:
    table = read(tmp_path, changed("artist", "0.1", row=0))
    with pytest.raises(UnusableRequestError, match="'classical' has 3 different values of artist"):
        divide(table, 4, 0)


def command(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["train", "table", *map(str, arguments)])
    return result.exit_code, result.stderr


def test_a_refused_table_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "table.csv", rows())
    code, errors = command(path, "--out", tmp_path / "out")
    assert code == 1
    assert "5 folds need 5" in errors
    assert "[unusable_request]" in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [["--name", "Bad-Name"], ["--folds", "1"], ["--epochs", "0"], ["--seed", "-1"]]
)
def test_wrong_usage_exits_2(options: list[str], tmp_path: Path) -> None:
    code, errors = command(write_csv(tmp_path / "table.csv", rows()), *options)
    assert code == 2
    assert "Traceback" not in errors


@pytest.mark.parametrize("module", ["torch", "sklearn", "safetensors"])
def test_a_missing_package_is_told_with_its_extra(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(tmp_path / "table.csv", rows())
    monkeypatch.setattr("bandstand_training.extra.find_spec", lambda name: name != module or None)
    code, errors = command(path)
    assert code == 1
    assert "bandstand[train]" in errors
