"""The figures on the genre model's card are those of the weights that ship."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bandstand.audio.decode import DecodeLimits
from bandstand.models.repository import ModelRepository
from bandstand.models.source import SourceCache
from bandstand.pipelines.prepare import prepare
from bandstand.places import EMBEDDED_REPOSITORY
from bandstand.runners.onnx import OnnxRunner
from bandstand.settings import get_settings
from bandstand_training.checkpoint import load_checkpoint
from bandstand_training.evaluation import FAULT_FILTERED, RANDOM_FOLDS, measure_on_test
from bandstand_training.table import FeatureTable, Split, read_split, read_table
from harness.cards import get_card

CARD = get_card("genre_features")
CLAIMS = {quality.protocol: quality for quality in CARD.quality}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory):
    cache = SourceCache(tmp_path_factory.mktemp("cache"))
    return load_checkpoint(cache.resolve(CARD.source))


@pytest.fixture(scope="module")
def runner() -> OnnxRunner:
    installed = ModelRepository(EMBEDDED_REPOSITORY).installed(CARD.name, 1)
    return OnnxRunner(CARD, installed.model_path, threads=1)


@pytest.fixture(scope="module")
def table(data_dir: Path) -> FeatureTable:
    return read_table(data_dir / "tables" / "gtzan_features_30_sec.csv")


@pytest.fixture(scope="module")
def split(data_dir: Path) -> Split:
    return read_split(data_dir / "tables")


def test_card_and_checkpoint_say_the_same(checkpoint) -> None:
    metadata = checkpoint.metadata
    assert (metadata.name, metadata.labels, metadata.quality) == (
        CARD.name,
        CARD.labels,
        CARD.quality,
    )
    assert metadata.fitted_to == CARD.source.trained_on
    assert list(CLAIMS) == [FAULT_FILTERED, RANDOM_FOLDS]


def test_the_checkpoint_reaches_its_claim_exactly(
    checkpoint, table: FeatureTable, split: Split
) -> None:
    assert measure_on_test(checkpoint.model, table, split) == CLAIMS[FAULT_FILTERED]


def test_the_committed_graph_reaches_the_claim(
    runner: OnnxRunner, table: FeatureTable, split: Split
) -> None:
    rows = table.rows_of(split.test)
    chosen = runner.run({"features": table.features[rows].astype(np.float32)})["logits"]
    accuracy = np.mean(chosen.argmax(axis=1) == table.labels[rows])
    assert round(float(accuracy), 4) == CLAIMS[FAULT_FILTERED].accuracy
    assert len(rows) == CLAIMS[FAULT_FILTERED].examples


def test_figures_beat_those_to_beat() -> None:
    assert CLAIMS[FAULT_FILTERED].accuracy > 0.54
    assert round(CLAIMS[RANDOM_FOLDS].accuracy, 2) >= 0.76


def test_no_shipped_row_was_measured(table: FeatureTable, split: Split) -> None:
    fitted = set(table.rows_of((*split.train, *split.valid)).tolist())
    assert fitted.isdisjoint(table.rows_of(split.test).tolist())
    assert CARD.source.trained_on.count(f" {len(fitted)} clips") == 1


def test_a_string_orchestra_is_classical(runner: OnnxRunner, data_dir: Path) -> None:
    recording = data_dir / "audio" / "pd_Hungarian_Dance_5_strings.ogg"
    limits = DecodeLimits.from_settings(get_settings())
    logits = runner.run(prepare(recording.read_bytes(), (CARD,), limits).of(CARD).inputs)["logits"]
    assert len(logits) == 2
    for window in logits:
        scores = dict(zip(CARD.labels, window.tolist(), strict=True))
        assert max(scores, key=lambda label: scores[label]) == "classical"
        assert scores["classical"] > scores["metal"] + 1.0
