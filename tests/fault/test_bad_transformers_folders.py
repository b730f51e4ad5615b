"""Transformers' checkpoint folders that are damaged, foreign or dangerous; nothing is installed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bandstand.errors import CheckpointError, ModelMismatchError, SourceError
from bandstand.models.repository import ModelRepository
from bandstand.models.source import SourceCache
from bandstand_exporters.export import export
from bandstand_exporters.transformers_checkpoint import load_model
from harness.cards import get_card, tiny_card
from harness.transformers_checkpoints import (
    GENRES,
    SMALL_WAVES,
    local,
    write_hubert,
    write_wav2vec2,
)

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_wav2vec2(tmp_path / "checkpoint", **SMALL_WAVES)


def change_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_weights(folder: Path, change: Callable[[Tensors], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def labelled(names: list[str]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }


FAULTS: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "another architecture": (
        lambda folder: write_hubert(folder, **SMALL_WAVES),
        CheckpointError,
        "is a hubert model",
    ),
    "another head": (
        lambda folder: change_json(folder / "config.json", architectures=["Wav2Vec2ForCTC"]),
        CheckpointError,
        "is a Wav2Vec2ForCTC",
    ),
    "cut off": (truncate, CheckpointError, "cannot be read"),
    "a weight is missing": (
        lambda folder: change_weights(folder, lambda w: w.pop("classifier.weight")),
        CheckpointError,
        r"lacks 1 weights, classifier\.weight",
    ),
    "a layer too many": (
        lambda folder: change_json(folder / "config.json", num_hidden_layers=1),
        CheckpointError,
        "has besides 16 weights",
    ),
    "other sizes": (
        lambda folder: change_json(folder / "config.json", classifier_proj_size=31),
        CheckpointError,
        "other sizes",
    ),
    "a configuration that is none": (
        lambda folder: change_json(folder / "config.json", num_attention_heads=0),
        CheckpointError,
        "does not make a wav2vec2",
    ),
    "no JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        CheckpointError,
        r"config\.json",
    ),
    "more labels than logits": (
        lambda folder: change_json(folder / "config.json", **labelled([*GENRES, "polka"])),
        CheckpointError,
        "other sizes",
    ),
    "more logits than the card has": (
        lambda folder: write_wav2vec2(folder, (*GENRES, "polka"), **SMALL_WAVES),
        ModelMismatchError,
        "11 labels for an output of 10",
    ),
    "a label twice": (
        lambda folder: change_json(folder / "config.json", **labelled([*GENRES[:-1], GENRES[0]])),
        ModelMismatchError,
        "twice",
    ),
    "another rate": (
        lambda folder: change_json(folder / "preprocessor_config.json", sampling_rate=8000),
        ModelMismatchError,
        "sampling_rate 8000",
    ),
    "samples as they are": (
        lambda folder: change_json(folder / "preprocessor_config.json", do_normalize=False),
        ModelMismatchError,
        "do_normalize False",
    ),
    "no extractor": (
        lambda folder: (folder / "preprocessor_config.json").write_text("[]"),
        CheckpointError,
        "no JSON object",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_folder_is_refused_and_the_repository_is_as_before(
    folder: Path, tmp_path: Path, fault: str
) -> None:
    spoil, error, words = FAULTS[fault]
    spoil(folder)
    repository = ModelRepository(tmp_path / "models")
    repository.install(tiny_card("genre_wav2vec2"), {"model.onnx": b"the one before"})
    before = sorted(repository.root.rglob("*"))
    card = local(get_card("genre_wav2vec2"), folder)
    with pytest.raises(error, match=words):
        export(card, repository, SourceCache(tmp_path / "cache"))
    assert sorted(repository.root.rglob("*")) == before


def test_a_missing_file_is_named(folder: Path, tmp_path: Path) -> None:
    card = local(get_card("genre_wav2vec2"), folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(SourceError, match=r"model\.safetensors"):
        export(card, ModelRepository(tmp_path / "models"), SourceCache(tmp_path / "cache"))


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_pickled_weights_are_read_and_pickled_code_is_not_run(folder: Path, tmp_path: Path) -> None:
    from transformers import Wav2Vec2ForSequenceClassification as Model

    safe, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    weights = load_file(safe)
    # As older versions of torch named the parts of normalised weights.
    old = "parametrizations.weight.original"
    torch.save(
        {
            n.replace(f"{old}0", "weight_g").replace(f"{old}1", "weight_v"): w
            for n, w in weights.items()
        },
        pickled,
    )
    wanted = load_model(folder, Model)
    safe.unlink()
    found = load_model(folder, Model)
    samples = torch.linspace(-1, 1, 8000)[None]
    torch.testing.assert_close(found(samples).logits, wanted(samples).logits)

    sprung = tmp_path / "sprung"
    pickled.write_bytes(pickle.dumps({"weights": Trap(sprung)}))
    with pytest.raises(CheckpointError, match="safely"):
        load_model(folder, Model)
    assert not sprung.exists()


def test_no_normalised_weight_is_left_for_the_graph(folder: Path) -> None:
    from torch.nn.utils import parametrize
    from transformers import Wav2Vec2ForSequenceClassification

    plain = Wav2Vec2ForSequenceClassification.from_pretrained(folder)
    assert any(parametrize.is_parametrized(module) for module in plain.modules())
    model = load_model(folder, Wav2Vec2ForSequenceClassification)
    assert not any(parametrize.is_parametrized(module) for module in model.modules())
