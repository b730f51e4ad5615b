"""A checkpoint's denormal weights are zero in its graph, which answers as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from bandstand.errors import ModelMismatchError
from bandstand.models.card import Card
from bandstand.models.installed import MODEL_FILE
from bandstand.models.repository import ModelRepository
from bandstand.models.source import SourceCache
from bandstand.places import EMBEDDED_MODELS, EMBEDDED_REPOSITORY
from bandstand.runners.host_front_end import NETWORK_FILE
from bandstand_exporters.export import export
from harness.cards import get_card
from harness.cnn_checkpoints import MelCnn, layers_of, mel_cnn, write_description, write_mel_cnn
from harness.transformers_checkpoints import local, seconds_of
from tests.installed_cards import install

CARD = seconds_of(get_card("genre_cnn"), 1.0)
SMALLEST = np.finfo(np.float32).tiny
DENORMALS_OF_TAGS_MSD = 55_511


def denormals_in(path: Path) -> int:
    """Count the denormal weights of a graph; the file of weights beside it is read too."""
    tensors = map(numpy_helper.to_array, onnx.load(path).graph.initializer)
    floats = (values for values in tensors if values.dtype == np.float32)
    return sum(int(((values != 0) & (np.abs(values) < SMALLEST)).sum()) for values in floats)


def small_network() -> MelCnn:
    return mel_cnn((4, 6))


def card_of(network: MelCnn, folder: Path) -> Card:
    """Write a network, and return a card with it as its source."""
    write_mel_cnn(folder, network)
    write_description(folder, layers=layers_of(2))
    return local(CARD, folder)


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models")


def test_denormal_weights_are_zero_in_the_graph_and_the_report_counts_them(
    data_dir: Path, repository: ModelRepository, tmp_path: Path
) -> None:
    network = small_network()
    with torch.no_grad():
        network.conv1.weight[0] = 1e-40
        network.fc1.weight[:, :2] = -1e-42
    wanted = network.conv1.weight[0].numel() + network.fc1.weight[:, :2].numel()
    card = card_of(network, tmp_path / "checkpoint")
    exported = export(card, repository, SourceCache(tmp_path / "cache"))
    assert exported.report.denormals_zeroed == wanted
    assert repository.report(card.name, 1)["denormals_zeroed"] == wanted
    folder = repository.latest(card.name).folder
    assert [denormals_in(folder / name) for name in (MODEL_FILE, NETWORK_FILE)] == [0, 0]
    assert exported.report.proof.source_difference["logits"].relative < 1e-4


def test_a_network_whose_answers_need_its_denormal_weights_is_not_installed(
    data_dir: Path, repository: ModelRepository, tmp_path: Path
) -> None:
    network = small_network()
    with torch.no_grad():
        network.fc1.weight *= 1e-39
        network.fc1.bias.zero_()
        network.fc2.weight *= 1e37  # no exporter joins the two: a ReLU is between them
    card = card_of(network, tmp_path / "checkpoint")
    with pytest.raises(ModelMismatchError, match="denormal"):
        export(card, repository, SourceCache(tmp_path / "cache"))
    assert not repository.versions(card.name)


def test_the_published_tagger_loses_its_denormal_weights(cards_root: Path) -> None:
    install(cards_root, ["tags_msd"])
    installed = ModelRepository(cards_root / "models").latest("tags_msd")
    assert installed.report()["denormals_zeroed"] == DENORMALS_OF_TAGS_MSD
    assert denormals_in(installed.folder / MODEL_FILE) == 0


@pytest.mark.parametrize("name", sorted(EMBEDDED_MODELS))
def test_no_embedded_model_has_denormal_weights(name: str) -> None:
    assert denormals_in(ModelRepository(EMBEDDED_REPOSITORY).latest(name).model_path) == 0
