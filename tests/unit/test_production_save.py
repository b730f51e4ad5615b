"""A fitted model can be saved, loaded and used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from bandstand.errors import CheckpointError, UnusableRequestError
from bandstand_training import checkpoint as module
from bandstand_training.checkpoint import load_checkpoint, save_checkpoint
from bandstand_training.fit import logits_of
from bandstand_training.genre_classifier import GenreClassifier
from tests.genre_models import CLASSES, small_checkpoint, small_table

TABLE = small_table()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_checkpoint(small_checkpoint(), tmp_path)


def test_a_loaded_model_answers_as_the_saved_one(tmp_path: Path) -> None:
    original = small_checkpoint()
    loaded = load_checkpoint(save_checkpoint(original, tmp_path))
    assert loaded.metadata == original.metadata
    wanted = logits_of(original.model, TABLE.features)
    np.testing.assert_array_equal(logits_of(loaded.model, TABLE.features), wanted)


def test_equal_models_give_equal_bytes_under_new_versions(tmp_path: Path) -> None:
    checkpoint = small_checkpoint()
    paths = [save_checkpoint(checkpoint, tmp_path) for _ in range(3)]
    assert [path.name for path in paths] == [f"genre_features-v{n}.safetensors" for n in (1, 2, 3)]
    assert len({path.read_bytes() for path in paths}) == 1
    paths[1].unlink()  # a number is not used again while a newer one is there
    assert save_checkpoint(checkpoint, tmp_path).name == "genre_features-v4.safetensors"


def test_the_metadata_is_in_the_header(saved: Path) -> None:
    with safe_open(saved, framework="np") as file:
        saved = json.loads(file.metadata()["bandstand"])
        assert set(file.keys()) > {"scaler.mean", "scaler.turn", "members.1.8.bias"}
    assert saved["labels"] == list(CLASSES)


def test_a_header_of_any_length_is_no_pickle(tmp_path: Path) -> None:
    """Every 32nd length has a pickle's first byte, in the place where the length stands."""
    starts = set()
    for length in range(0, 257, 8):
        original = small_checkpoint()
        metadata = original.metadata.model_copy(update={"fitted_to": "x" * length})
        path = save_checkpoint(replace(original, metadata=metadata), tmp_path)
        assert load_checkpoint(path).metadata == metadata
        starts.add(path.read_bytes()[0])
    assert 0x80 in starts


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(small_checkpoint(), tmp_path)
    before = sorted(tmp_path.rglob("*"))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(small_checkpoint(), tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    checkpoint = small_checkpoint()
    with torch.no_grad():
        checkpoint.model.members[0][0].weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match="not finite"):
        save_checkpoint(checkpoint, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_predictions_agree_with_each_other(saved: Path) -> None:
    classifier = GenreClassifier(saved)
    batch = classifier.predict_batch(TABLE.features)
    assert len(batch) == len(TABLE.labels)
    for row in (0, 50):
        one = classifier.predict(TABLE.features[row])
        assert one.label == batch[row].label == max(one.probabilities, key=one.probabilities.get)
        assert one.confidence == pytest.approx(batch[row].confidence, abs=1e-6)
        assert sum(one.probabilities.values()) == pytest.approx(1.0)
        best = classifier.top_k(TABLE.features[row], k=2)
        assert best[0] == (one.label, one.confidence)
        assert best[0][1] >= best[1][1]
    assert classifier.predict_batch(TABLE.features[:0]) == []


@pytest.mark.parametrize(
    "features", [np.zeros(56), np.zeros((1, 57)), np.full(57, np.nan), np.full(57, np.inf)]
)
def test_unusable_features_are_refused(saved: Path, features: np.ndarray) -> None:
    with pytest.raises(UnusableRequestError):
        GenreClassifier(saved).predict(features)


@pytest.mark.parametrize("k", [0, -1, 4])
def test_top_k_outside_the_labels_is_refused(saved: Path, k: int) -> None:
    with pytest.raises(UnusableRequestError, match="1 to 3"):
        GenreClassifier(saved).top_k(TABLE.features[0], k)


def test_info(saved: Path) -> None:
    info = GenreClassifier(saved).info()
    one_network = 57 * 128 + 128 + 128 * 64 + 64 + 64 * 32 + 32 + 32 * 3 + 3
    assert info.name == "genre_features-v1"
    assert info.parameters == 2 * one_network
    assert info.size_bytes == saved.stat().st_size
    assert info.labels == CLASSES
