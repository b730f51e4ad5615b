"""The committed graph, a fresh export and torch give the same answers; a wrong one is not kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from bandstand.errors import CardError, ChecksumError, ModelMismatchError
from bandstand.models.card import Card, Tensor
from bandstand.models.repository import ModelRepository
from bandstand.models.source import SourceCache, sha256_of
from bandstand.places import EMBEDDED_REPOSITORY
from bandstand.runners.base import Array
from bandstand.runners.onnx import OnnxRunner
from bandstand.settings import get_settings
from bandstand_exporters.export import export
from bandstand_exporters.feature_mlp import FeatureMlp, open_source
from bandstand_exporters.proof import prove
from bandstand_training.table import read_table
from harness.cards import get_card

CARD = get_card("genre_features")
INPUT, LOGITS = CARD.inputs[0].name, CARD.outputs[0].name


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> SourceCache:
    return SourceCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def source(cache: SourceCache) -> FeatureMlp:
    return open_source(CARD, cache.resolve(CARD.source))


@pytest.fixture(scope="module")
def rows(data_dir: Path) -> Array:
    return read_table(data_dir / "tables" / "gtzan_features_30_sec.csv").features.astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, cache: SourceCache) -> ModelRepository:
    repository = ModelRepository(tmp_path_factory.mktemp("repository"))
    assert export(CARD, repository, cache).version == 1
    return repository


def test_torch_equals_fresh_export_equals_committed_graph(
    source: FeatureMlp, exported: ModelRepository, rows: Array
) -> None:
    committed = ModelRepository(EMBEDDED_REPOSITORY).installed(CARD.name, 1)
    fresh = exported.latest(CARD.name)
    wanted = source.run({INPUT: rows})[LOGITS]
    for path in (fresh.model_path, committed.model_path):
        found = OnnxRunner(CARD, path, threads=1).run({INPUT: rows})[LOGITS]
        np.testing.assert_allclose(
            found, wanted, rtol=CARD.tolerance.relative, atol=CARD.tolerance.absolute
        )


def test_batch_equals_single(exported: ModelRepository, rows: Array) -> None:
    runner = OnnxRunner(CARD, exported.latest(CARD.name).model_path, threads=1)
    together = runner.run({INPUT: rows[:64]})[LOGITS]
    alone = np.concatenate([runner.run({INPUT: rows[i : i + 1]})[LOGITS] for i in range(64)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_the_scaler_is_in_the_graph(exported: ModelRepository, source: FeatureMlp) -> None:
    # Features as they come, over twelve decades, go in: nothing outside scales them. And farther
    # than extreme is as extreme.
    runner = OnnxRunner(CARD, exported.latest(CARD.name).model_path, threads=1)
    extremes = np.array([[1e9], [1e12], [0.0], [-1e12]], np.float32).repeat(57, axis=1)
    logits = runner.run({INPUT: extremes})[LOGITS]
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(logits[0], logits[1])
    np.testing.assert_allclose(logits, source.run({INPUT: extremes})[LOGITS], rtol=1e-4, atol=1e-5)


def test_the_report_says_what_was_proven(exported: ModelRepository) -> None:
    version = exported.latest(CARD.name)
    report = exported.report(CARD.name, 1)
    assert report["card"] == CARD.name
    assert report["source_sha256"] == CARD.source.sha256
    assert report["model_sha256"] == sha256_of(version.model_path)
    assert report["proof"]["batch_sizes"] == [1, 3, 8]
    assert report["proof"]["source_difference"][LOGITS]["tolerance_used"] <= 1


def test_the_committed_report_is_of_the_committed_files() -> None:
    repository = ModelRepository(EMBEDDED_REPOSITORY)
    installed, report = repository.installed(CARD.name, 1), repository.report(CARD.name, 1)
    assert report["source_sha256"] == CARD.source.sha256
    assert report["model_sha256"] == sha256_of(installed.model_path)
    assert report["model_bytes"] == installed.model_path.stat().st_size < 200_000


def test_the_graph_does_not_tell_where_it_was_made(exported: ModelRepository) -> None:
    content = exported.latest(CARD.name).model_path.read_bytes()
    assert b".py" not in content
    assert b"training." not in content


def test_without_the_table_examples_are_drawn(
    source: FeatureMlp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANDSTAND_DATA_DIR", str(tmp_path))
    get_settings.cache_clear()
    try:
        examples = source.examples()
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()
    assert examples.description.startswith("64 rows drawn")
    assert np.isfinite(examples.inputs[INPUT]).all()
    assert len(set(source.run(examples.inputs)[LOGITS].argmax(axis=1).tolist())) > 3


@dataclass
class Altered:
    """A source that answers, or exports, other than the model it was opened from."""

    source: FeatureMlp
    offset: float = 0.0
    row: int = 0
    labels: tuple[str, ...] = CARD.labels
    framework: str = "torch"

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        logits = self.source.run(inputs)[LOGITS].copy()
        logits[self.row] += self.offset
        return {LOGITS: logits}


def proof_of(exported: ModelRepository, source: Altered, card: Card = CARD) -> None:
    inputs = source.source.examples().inputs
    prove(card, exported.latest(CARD.name).model_path, source, inputs)


def test_a_small_difference_is_refused_with_tensor_and_size(
    exported: ModelRepository, source: FeatureMlp
) -> None:
    with pytest.raises(ModelMismatchError, match=r"'logits' against its source .* 0\.01 apart"):
        proof_of(exported, Altered(source, offset=0.01))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(
    exported: ModelRepository, source: FeatureMlp, value: float
) -> None:
    with pytest.raises(ModelMismatchError, match="finite"):
        proof_of(exported, Altered(source, offset=value))


def test_other_labels_are_refused(exported: ModelRepository, source: FeatureMlp) -> None:
    labels = (*CARD.labels[1:], CARD.labels[0])
    with pytest.raises(ModelMismatchError, match="labels"):
        proof_of(exported, Altered(source, labels=labels))


@pytest.mark.parametrize(
    "inputs",
    [
        (Tensor(name="samples", shape=(57,)),),
        (Tensor(name="features", shape=(56,)),),
        (Tensor(name="features", shape=(57,), dtype="float16"),),
    ],
)
def test_a_card_of_another_input_is_refused(
    exported: ModelRepository, source: FeatureMlp, inputs: tuple[Tensor, ...]
) -> None:
    card = CARD.model_copy(update={"inputs": inputs})
    with pytest.raises(ModelMismatchError, match="input"):
        proof_of(exported, Altered(source), card)


def test_a_fixed_batch_axis_is_refused(
    exported: ModelRepository, source: FeatureMlp, tmp_path: Path
) -> None:
    model = onnx.load(exported.latest(CARD.name).model_path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelMismatchError, match="'batch'"):
        prove(CARD, path, source, source.examples().inputs)


def test_a_failed_proof_installs_nothing(
    tmp_path: Path,
    exported: ModelRepository,
    cache: SourceCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write_another_model(self: FeatureMlp, path: Path) -> None:
        model = onnx.load(exported.latest(CARD.name).model_path)
        weight = next(w for w in model.graph.initializer if w.name == "scaler.turn")
        changed = onnx.numpy_helper.to_array(weight) * np.float32(1.001)
        weight.CopyFrom(onnx.numpy_helper.from_array(changed, weight.name))
        onnx.save(model, path)

    monkeypatch.setattr(FeatureMlp, "write_onnx", write_another_model)
    with pytest.raises(ModelMismatchError, match="logits"):
        export(CARD, ModelRepository(tmp_path), cache)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_checkpoint_is_not_exported(tmp_path: Path, cache: SourceCache) -> None:
    other = CARD.source.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(ChecksumError):
        export(CARD.model_copy(update={"source": other}), ModelRepository(tmp_path), cache)


def test_an_unknown_architecture_is_refused(tmp_path: Path, cache: SourceCache) -> None:
    card = CARD.model_copy(update={"architecture": "perceptron_of_1958"})
    with pytest.raises(CardError, match="perceptron_of_1958"):
        export(card, ModelRepository(tmp_path), cache)
