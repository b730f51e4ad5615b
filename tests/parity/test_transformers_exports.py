"""Graphs of transformers' checkpoints against transformers itself, and in smaller arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandstand.errors import ModelMismatchError
from bandstand.models.card import FRONT_END_TENSOR, Card
from bandstand.models.installed import CARD_FILE, NETWORK_FILE
from bandstand.models.precision import WeightPrecision
from bandstand.models.repository import ModelRepository
from bandstand.models.source import SourceCache, sha256_of
from bandstand.runners.base import Runner
from bandstand.runners.cores import has_bf16
from bandstand.runners.host_front_end import HostFrontEndRunner
from bandstand.runners.onnx import OnnxRunner
from bandstand.runners.openvino import OpenVinoRunner
from bandstand.settings import get_settings
from bandstand_exporters.example_windows import example_windows
from bandstand_exporters.export import Exported, export
from bandstand_exporters.proof import Proof
from bandstand_exporters.weights import WEIGHTS_FILE
from harness.cards import get_card
from harness.transformers_checkpoints import (
    GENRES,
    SMALL_AST,
    SMALL_WAVES,
    TAGS,
    local,
    seconds_of,
    write_ast,
    write_hubert,
    write_wav2vec2,
)
from tests.installed_cards import install, proof_of

FRAMES = 128
CHECKPOINTS: dict[str, Callable[[Path], Path]] = {
    "genre_wav2vec2": lambda folder: write_wav2vec2(folder, **SMALL_WAVES),
    "genre_hubert": lambda folder: write_hubert(folder, **SMALL_WAVES),
    "instruments_ast": lambda folder: write_ast(folder, **SMALL_AST, max_length=FRAMES),
}


@dataclass
class Export:
    """A small checkpoint under its real card, installed."""

    card: Card
    repository: ModelRepository
    cache: SourceCache
    exported: Exported

    @property
    def folder(self) -> Path:
        return self.repository.installed(self.card.name, self.exported.version).model_path.parent

    def again(self, precision: WeightPrecision) -> Exported:
        return export(self.card, self.repository, self.cache, precision=precision)


@pytest.fixture(scope="module")
def export_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Export]:
    made: dict[str, Export] = {}

    def get(name: str) -> Export:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            card = seconds_of(local(get_card(name), CHECKPOINTS[name](folder / "checkpoint")), 1.0)
            if name == "instruments_ast":
                front_end = {"kind": "fbank", "parameters": {"frames": FRAMES}}
                card = Card.model_validate(card.model_dump() | {"front_end": front_end})
            repository, cache = ModelRepository(folder / "models"), SourceCache(folder / "cache")
            made[name] = Export(card, repository, cache, export(card, repository, cache))
        return made[name]

    return get


@pytest.fixture(scope="module")
def proof_for(
    export_of: Callable[[str], Export], request: pytest.FixtureRequest
) -> Callable[[str], Proof]:
    def get(name: str) -> Proof:
        # HuBERT's export is needed for nothing else here; with recordings it is made elsewhere too.
        if name != "genre_hubert" or not get_settings().data_dir.is_dir():
            return export_of(name).exported.report.proof
        root = request.getfixturevalue("cards_root")
        install(root, [name])
        return proof_of(root, name)

    return get


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_graph_answers_as_transformers_does(
    proof_for: Callable[[str], Proof], name: str
) -> None:
    proof = proof_for(name)
    # Logits are of the order of ten: float32 and nothing more is lost. Weight normalisation left
    # in the graph, or another front end, costs a tenth and more.
    assert proof.source_difference["logits"].relative < 1e-4
    assert proof.batch_difference["logits"].relative < 1e-4


@pytest.mark.parametrize(
    ("name", "labels"), [("genre_wav2vec2", GENRES), ("instruments_ast", TAGS)]
)
def test_labels_are_the_checkpoints_and_stay_with_the_model(
    export_of: Callable[[str], Export], name: str, labels: tuple[str, ...]
) -> None:
    made = export_of(name)
    assert made.card.labels == ()
    assert made.repository.latest(name).card().labels == labels


@pytest.mark.parametrize(("precision", "share"), [("int8", 0.8), ("fp16", 0.7)])
def test_smaller_arithmetic_is_smaller_and_close(
    export_of: Callable[[str], Export], precision: Any, share: float
) -> None:
    made = export_of("genre_wav2vec2")
    reduced = made.again(precision).report
    assert reduced.precision == precision
    assert reduced.model_bytes < share * made.exported.report.model_bytes
    # Another result than f32's, or nothing was converted; but not far from it.
    assert 1e-4 < reduced.proof.source_difference["logits"].relative < 0.1


def test_arithmetic_that_costs_too_much_is_refused_and_nothing_is_installed(
    export_of: Callable[[str], Export], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = export_of("genre_wav2vec2")
    before = made.repository.versions(made.card.name)
    monkeypatch.setattr("bandstand_exporters.precision.LARGEST_CHANGE", 1e-5)
    with pytest.raises(ModelMismatchError):
        made.again("int8")
    assert made.repository.versions(made.card.name) == before


def graphs_of(made: Export) -> dict[str, Any]:
    """The installed ONNX files by name, without the weights that lie beside them."""
    import onnx

    files = sorted(made.folder.glob("*.onnx"))
    return {file.name: onnx.load(str(file), load_external_data=False).graph for file in files}


def test_a_model_of_two_graphs_keeps_its_weights_once(export_of: Callable[[str], Export]) -> None:
    made = export_of("instruments_ast")
    graphs = graphs_of(made)
    assert list(graphs) == ["model.onnx", NETWORK_FILE]
    placed = [
        {tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in kept}
        for kept in (graph.initializer for graph in graphs.values())
    ]
    whole, network = ({name: at for name, at in found.items() if at} for found in placed)
    assert network.items() < whole.items()  # the front end's are in the whole graph only
    assert {at["location"] for at in whole.values()} == {WEIGHTS_FILE}  # a name, no path

    weights = sum(int(at["length"]) for at in whole.values())
    shared = sum(int(at["length"]) for at in network.values())
    on_disk = sum(file.stat().st_size for file in made.folder.iterdir())
    assert on_disk < weights + 0.5 * shared
    report = made.exported.report
    files = [made.folder / name for name in ("model.onnx", WEIGHTS_FILE)]
    assert report.model_sha256 == sha256_of(*files)
    assert report.model_bytes == sum(file.stat().st_size for file in files)


def test_both_graphs_answer_as_if_each_had_its_own_weights(
    export_of: Callable[[str], Export], tmp_path: Path
) -> None:
    import onnx

    made = export_of("instruments_ast")
    inputs = example_windows(made.card, per_recording=1).inputs
    for name in ("model.onnx", NETWORK_FILE):
        onnx.save(onnx.load(str(made.folder / name)), str(tmp_path / name))
    assert not (tmp_path / WEIGHTS_FILE).exists()
    runtimes: tuple[Callable[[Card, Path], Runner], ...] = (
        partial(OnnxRunner, threads=1),
        partial(OpenVinoRunner, threads=1, precision="f32"),
        *([partial(OpenVinoRunner, threads=1, precision="bf16")] if has_bf16() else []),
    )
    for open_runner in runtimes:
        for form in (open_runner, partial(HostFrontEndRunner, open_runner=open_runner)):
            found, wanted = (
                form(made.card, folder / "model.onnx").run(inputs)["logits"]
                for folder in (made.folder, tmp_path)
            )
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_smaller_weights_are_in_one_graph_and_in_its_file(
    export_of: Callable[[str], Export], precision: Any
) -> None:
    made = export_of("instruments_ast")
    exported = made.again(precision)
    folder = made.repository.installed(made.card.name, exported.version).model_path.parent
    assert {file.name for file in folder.glob("*")} == {"model.onnx", "report.json", CARD_FILE}
    assert exported.report.model_sha256 == sha256_of(folder / "model.onnx")


def test_bf16_leaves_the_front_end_in_f32(export_of: Callable[[str], Export]) -> None:
    import onnx

    made = export_of("instruments_ast")
    path = made.folder / "model.onnx"
    whole = onnx.load(str(path))
    for node in whole.graph.node:  # the same graph, whose seam a runner does not find
        for names in (node.input, node.output):
            names[:] = ["hidden" if name == FRONT_END_TENSOR else name for name in names]
    del whole.graph.value_info[:]
    hidden = path.with_name("hidden.onnx")
    onnx.save(whole, str(hidden))
    inputs = example_windows(made.card, per_recording=1).inputs

    exact, bf16 = (partial(OpenVinoRunner, threads=1, precision=p) for p in ("f32", "bf16"))
    on_host = HostFrontEndRunner(made.card, path, bf16)
    wanted = exact(made.card, path).run(inputs)["logits"]
    runners = (bf16(made.card, path), on_host, bf16(made.card, hidden))
    cut, host, uncut = (np.abs(r.run(inputs)["logits"] - wanted).max() for r in runners)
    hidden.unlink()
    assert 0 < cut < 0.5 * uncut, (cut, uncut)
    assert 0 < host < 0.5 * uncut, (host, uncut)
