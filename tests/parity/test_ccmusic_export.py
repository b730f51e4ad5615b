"""CCMusic's image networks: the graph's picture and outputs are those of the reference."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bandstand.models.card import Card
from bandstand.models.repository import ModelRepository
from bandstand.models.source import SourceCache
from bandstand.runners.load import load_runner
from bandstand_exporters.ccmusic import LABELS, PICTURE_SIZE, build_network, draw
from bandstand_exporters.example_windows import example_windows
from bandstand_exporters.export import export
from bandstand_exporters.librosa_front_end import librosa_log_mel
from bandstand_exporters.mel_picture import MelPicture
from bandstand_exporters.proof import Proof
from harness.cards import get_card
from harness.cnn_checkpoints import ImageNetwork, alexnet, vgg19, write_image_network
from harness.transformers_checkpoints import local
from tests.installed_cards import install, proof_of

CARD = get_card("genre_ccmusic")
NARROW = 1 / 16
NETWORKS: dict[str, Callable[[], ImageNetwork]] = {
    "VGG-19 with norms": lambda: vgg19(width=NARROW),
    "VGG-19": lambda: vgg19(width=NARROW, norms=False),
    "AlexNet": lambda: alexnet(width=NARROW, classes=9),
}


def of_classes(card: Card, classes: int) -> Card:
    """Return the card with that many outputs."""
    output = card.outputs[0].model_copy(update={"shape": (classes,)})
    return card.model_copy(update={"outputs": (output,)})


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_built_into_the_network_they_are_of(name: str) -> None:
    network = NETWORKS[name]()
    torch.manual_seed(1)
    pictures = torch.rand(2, 3, PICTURE_SIZE, PICTURE_SIZE) * 2 - 1
    with torch.inference_mode():
        wanted = network(pictures)
        found = build_network(network.state_dict(), name)(pictures)
    assert (wanted[0] - wanted[1]).abs().max() > 1e-3  # else anything would be equal
    torch.testing.assert_close(found, wanted)


@pytest.fixture(scope="module")
def log_mel(data_dir: Path) -> Any:
    """Of every example window, and of silence; takes the recordings."""
    from bandstand.frontends.parameters import LogMelParameters

    (samples,) = example_windows(CARD, per_recording=1).inputs.values()
    return librosa_log_mel(samples, LogMelParameters.from_card(CARD))


def test_the_picture_is_what_pillow_and_numpy_make(log_mel: Any) -> None:
    frames, bands = log_mel.shape[1:]
    picture = MelPicture(frames, bands, PICTURE_SIZE)(torch.from_numpy(log_mel))
    assert picture.shape == (len(log_mel), 3, PICTURE_SIZE, PICTURE_SIZE)
    assert float(np.ptp(picture[-1].numpy(), axis=(1, 2)).max()) < 1e-5  # silence: one colour
    torch.testing.assert_close(picture, draw(torch.from_numpy(log_mel)), rtol=0, atol=1e-4)


def test_the_picture_is_what_specshow_draws(log_mel: Any) -> None:
    drawn = draw(torch.from_numpy(log_mel)).numpy()
    for values, picture in zip(log_mel[:3], drawn, strict=False):
        wanted = specshow(values.T)
        # specshow's cells are no whole number of its pixels, and it knows 256 colours.
        apart = np.abs(picture - wanted).mean()
        assert apart < 0.04
        assert np.abs(picture[:, ::-1] - wanted).mean() > 4 * apart


def specshow(decibels: Any) -> Any:
    """Draw with librosa and matplotlib, and resize with Pillow; `(3, size, size)`, -1 to 1."""
    import matplotlib

    matplotlib.use("Agg")
    import librosa.display
    from matplotlib import pyplot
    from PIL import Image

    librosa.display.specshow(decibels)
    pyplot.axis("off")
    file = io.BytesIO()
    pyplot.savefig(file, format="png", bbox_inches="tight", pad_inches=0.0)
    pyplot.close()
    small = (PICTURE_SIZE, PICTURE_SIZE)
    image = Image.open(file).convert("RGB").resize(small, Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1) / 127.5 - 1


@pytest.fixture(scope="module")
def exported(cards_root: Path) -> tuple[Card, ModelRepository, Proof]:
    """VGG-19 with norms, as narrow as above."""
    install(cards_root, [CARD.name])
    return CARD, ModelRepository(cards_root / "models"), proof_of(cards_root, CARD.name)


def test_the_graph_answers_as_torch_does(
    exported: tuple[Card, ModelRepository, Proof],
) -> None:
    proof = exported[2]
    assert proof.batch_sizes == (1, 3, 8)
    assert proof.source_difference["logits"].relative < 1e-4
    assert proof.batch_difference["logits"].relative < 1e-4


def test_both_runtimes_agree(exported: tuple[Card, ModelRepository, Proof]) -> None:
    card, repository, _ = exported
    installed = repository.latest(card.name)
    card = installed.card()
    inputs = example_windows(card, per_recording=1).inputs
    answers = [
        load_runner(card, installed.model_path, runtime=runtime, precision="f32").run(inputs)
        for runtime in ("onnxruntime", "openvino")
    ]
    logits = [answer["logits"] for answer in answers]
    assert np.ptp(logits[0], axis=0).max() > 0.05  # clips differ, or all would agree
    np.testing.assert_allclose(*logits, rtol=1e-4, atol=card.tolerance.absolute)


def test_labels_stay_with_the_model(exported: tuple[Card, ModelRepository, Proof]) -> None:
    card, repository, _ = exported
    assert card.labels == ()
    assert repository.latest(card.name).card().labels == LABELS[16]


def test_a_network_of_nine_classes_has_the_nine_labels(data_dir: Path, tmp_path: Path) -> None:
    path = write_image_network(tmp_path / "save.pt", alexnet(width=NARROW, classes=9))
    card, repository = of_classes(local(CARD, path), 9), ModelRepository(tmp_path / "models")
    proof = export(card, repository, SourceCache(tmp_path / "cache")).report.proof
    assert proof.source_difference["logits"].relative < 1e-4
    assert repository.latest(card.name).card().labels == LABELS[9]
