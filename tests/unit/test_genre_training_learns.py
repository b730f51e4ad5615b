"""Fitting learns, keeps the best epoch, and gives the same weights again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bandstand.errors import UnusableRequestError
from bandstand.frontends.librosa_features import FEATURE_NAMES
from bandstand_training.evaluation import cross_validate
from bandstand_training.fit import fit, logits_of
from bandstand_training.genre_network import GenreModel
from bandstand_training.table import read_split, read_table
from tests.genre_models import CLASSES, QUICK, small_table

TABLE = small_table()
ROWS = np.random.default_rng(1).permutation(len(TABLE.labels))


def accuracy(model, rows) -> float:
    return float(np.mean(logits_of(model, TABLE.features[rows]).argmax(1) == TABLE.labels[rows]))


def test_it_learns_what_it_has_not_seen() -> None:
    fitted = fit(TABLE, ROWS[:80], QUICK)
    assert accuracy(fitted.model, ROWS[80:]) > 0.8


def test_cross_validation_measures_every_row() -> None:
    quality = cross_validate(TABLE, QUICK, folds=3)
    assert quality.examples == len(TABLE.labels)
    assert 0.8 < quality.accuracy <= 1.0


def test_shuffled_labels_cannot_be_learned() -> None:
    shuffled = replace(TABLE, labels=np.random.default_rng(2).permutation(TABLE.labels))
    assert cross_validate(shuffled, QUICK, folds=3).accuracy < 0.55


def test_same_seed_same_weights_and_the_callers_randomness_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = fit(TABLE, ROWS[:60], QUICK).model.state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    again = fit(TABLE, ROWS[:60], QUICK).model.state_dict()
    other = fit(TABLE, ROWS[:60], replace(QUICK, seed=1)).model.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["members.0.0.weight"], other["members.0.0.weight"])


def test_stops_early_and_keeps_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    models, weights = [], []

    class Seen(GenreModel):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            models.append(self)

    def remember() -> None:
        weights.append({name: value.clone() for name, value in models[0].state_dict().items()})

    monkeypatch.setattr("bandstand_training.fit.GenreModel", Seen)
    settings = replace(QUICK, epochs=60, patience=3)
    watched = fit(TABLE, ROWS[:80], settings, watch=ROWS[80:], on_epoch=remember)
    assert len(weights) == watched.epochs + 3 < 60
    kept = watched.model.state_dict()
    assert all(torch.equal(kept[name], weights[watched.epochs - 1][name]) for name in kept)
    assert not torch.equal(kept["members.0.0.weight"], weights[-1]["members.0.0.weight"])


def test_table_and_lists_are_matched_by_file_name(tmp_path: Path) -> None:
    header = ",".join(["filename", "length", *FEATURE_NAMES, "label"])
    numbers = ",".join(str(i) for i in range(len(FEATURE_NAMES)))
    lines = [f"{CLASSES[i % 3]}.{i:05d}.wav,1,{numbers},{CLASSES[i % 3]}" for i in range(6)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    table = read_table(path)
    assert table.classes == CLASSES
    assert table.features[3].tolist() == list(range(len(FEATURE_NAMES)))
    for part, i in (("train", 4), ("valid", 0), ("test", 2)):
        genre = CLASSES[i % 3]
        (tmp_path / f"gtzan_{part}_filtered.txt").write_text(f"{genre}/{genre}.{i:05d}.wav\n")
    split = read_split(tmp_path)
    assert table.rows_of(split.train).tolist() == [4]
    (tmp_path / "gtzan_test_filtered.txt").write_text("jazz.00004.wav\n")
    with pytest.raises(UnusableRequestError, match="twice"):
        read_split(tmp_path)
    with pytest.raises(UnusableRequestError, match="no row for 'polka"):
        table.rows_of(["polka.00000.wav"])


@pytest.mark.parametrize("value", ["nan", "inf", "", "loud"])
def test_unusable_numbers_are_refused_with_their_row(tmp_path: Path, value: str) -> None:
    header = ",".join(["filename", "length", *FEATURE_NAMES, "label"])
    path = tmp_path / "table.csv"
    numbers = ",".join([value, *["1"] * (len(FEATURE_NAMES) - 1)])
    path.write_text(f"{header}\njazz.00000.wav,1,{numbers},jazz\n")
    with pytest.raises(UnusableRequestError, match="row 1"):
        read_table(path)
