"""Convolutional networks that are damaged, foreign or not described; nothing is installed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bandstand.errors import CardError, CheckpointError, ModelMismatchError
from bandstand.models.card import Card
from bandstand.models.repository import ModelRepository
from bandstand.models.source import SourceCache
from bandstand_exporters.export import export
from bandstand_exporters.mel_cnn import open_source
from harness.cards import get_card, tiny_card
from harness.cnn_checkpoints import (
    alexnet,
    layers_of,
    mel_cnn,
    vgg19,
    write_description,
    write_image_network,
    write_mel_cnn,
)
from harness.transformers_checkpoints import (
    GENRES,
    SMALL_AST,
    SMALL_WAVES,
    local,
    seconds_of,
    write_ast,
    write_wav2vec2,
)
from tests.keras_files import fitting, sequential, write_keras

MEL, CCMUSIC = get_card("genre_cnn"), get_card("genre_ccmusic")
CHANNELS = (8, 12)
LAYERS = layers_of(len(CHANNELS))
NARROW = 1 / 16
WEIGHTS = "model.safetensors"
KERAS_SHAPE = (128, 1292, 1)

Spoil = Callable[[Path], Any]
Fault = tuple[Spoil, type[Exception], str]


def with_files(card: Card, folder: Path) -> Card:
    """Return the card with that folder, whatever is in it, for its source."""
    files = tuple(sorted(path.name for path in folder.iterdir()))
    source = card.source.model_copy(update={"files": files})
    return local(card.model_copy(update={"source": source}), folder)


def check_refused(card: Card, tmp_path: Path, error: type[Exception], words: str) -> None:
    """Export, expect that error, and nothing else in the repository than before."""
    repository = ModelRepository(tmp_path / "models")
    repository.install(tiny_card(card.name), {"model.onnx": b"the one before"})
    before = contents(repository.root)
    with pytest.raises(error, match=words):
        export(card, repository, SourceCache(tmp_path / "cache"))
    assert contents(repository.root) == before


def contents(root: Path) -> dict[Path, bytes]:
    """Return every file below a folder, with what is in it."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


def cut(path: Path, kept: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])


def only(folder: Path, name: str, write: Callable[[Path], Any]) -> None:
    """Replace the folder's weights by another file."""
    (folder / WEIGHTS).unlink()
    write(folder / name)


def changed(line: str, to: str | None) -> Spoil:
    """Return what changes a line of the list of layers, or leaves it out."""
    lines = [to if old == line else old for old in LAYERS]
    return lambda folder: write_description(folder, layers=[new for new in lines if new])


MEL_FAULTS: dict[str, Fault] = {
    "no layers": (
        lambda folder: write_description(folder, layers=None),
        CheckpointError,
        r'holds weights, and not how they are connected.*conv1: .*\[8, 1, 3, 3\].*"layers": '
        r'\["conv1 padding=1x1", "bn1", "relu", "max_pool size=2"',
    ),
    "no rows": (
        lambda folder: write_description(folder, layers=LAYERS, rows=None),
        CheckpointError,
        '"rows": "bands"',
    ),
    "rows of something else": (
        lambda folder: write_description(folder, layers=LAYERS, rows="mel"),
        CheckpointError,
        "rows",
    ),
    "a layer that no line names": (changed("bn2", None), CheckpointError, "names bn2"),
    "a layer twice": (changed("bn2", "bn1"), CheckpointError, "bn1 is neither"),
    "a layer that is not known": (changed("relu", "swish"), CheckpointError, "swish is neither"),
    "an option that is none": (
        changed("bn1", "bn1 padding=1"),
        CheckpointError,
        "no option padding",
    ),
    "an option that cannot be read": (
        changed("bn1", "bn1 eps"),
        CheckpointError,
        "'eps' is no option",
    ),
    "an empty line": (changed("bn1", " "), CheckpointError, "neither"),
    "layers that do not fit each other": (
        changed("global_average_pool", "flatten"),
        CheckpointError,
        "does not take 1292 frames of 128 bands",
    ),
    "no labels": (
        lambda folder: write_description(folder, layers=LAYERS, id2label=None),
        CheckpointError,
        "does not name its labels.*id2label",
    ),
    "labels that are not numbered through": (
        lambda folder: write_description(folder, layers=LAYERS, id2label={0: "a", 2: "b"}),
        CheckpointError,
        r"numbers its labels \[0, 2\]",
    ),
    "more labels than outputs": (
        lambda folder: write_description(
            folder, layers=LAYERS, id2label=dict(enumerate([*GENRES, "polka"]))
        ),
        CheckpointError,
        "there are 11 labels",
    ),
    "more outputs than labels": (
        lambda folder: write_mel_cnn_as(folder, mel_cnn(CHANNELS, 11)),
        CheckpointError,
        r"answers \[11\], and there are 10 labels",
    ),
    "more of both than the card": (
        lambda folder: (
            write_mel_cnn_as(folder, mel_cnn(CHANNELS, 11)),
            write_description(folder, layers=LAYERS, id2label=dict(enumerate([*GENRES, "polka"]))),
        ),
        ModelMismatchError,
        "11 labels for an output of 10",
    ),
    "a label twice": (
        lambda folder: write_description(
            folder, layers=LAYERS, id2label=dict(enumerate([*GENRES[1:], GENRES[1]]))
        ),
        ModelMismatchError,
        "twice",
    ),
    "cut off": (lambda folder: cut(folder / WEIGHTS, 0.9), CheckpointError, "cannot be read"),
    "cut off, of torch": (
        lambda folder: only(
            folder,
            "best.pth",
            lambda path: (torch.save(mel_cnn(CHANNELS).state_dict(), path), cut(path, 0.9)),
        ),
        CheckpointError,
        "cut off",
    ),
    "a weight is missing": (
        lambda folder: change_weights(folder, lambda w: w.pop("bn1.running_var")),
        CheckpointError,
        "bn1 is no convolution",
    ),
    "a bias of another size": (
        lambda folder: change_weights(folder, lambda w: w.update({"fc2.bias": torch.zeros(3)})),
        CheckpointError,
        "size mismatch for bias",
    ),
    "a recurrent layer": (
        lambda folder: change_weights(
            folder, lambda w: w.update({"fc1.weight_ih_l0": torch.zeros(4, 4)})
        ),
        CheckpointError,
        "fc1 is no convolution",
    ),
    "no network": (
        lambda folder: only(folder, "notes.txt", lambda path: path.write_text("none")),
        CheckpointError,
        "no network that is known here.*notes.txt",
    ),
    "a whole module of torch": (
        lambda folder: only(folder, "net.pt", lambda path: torch.save(mel_cnn(CHANNELS), path)),
        CheckpointError,
        "cannot be read safely",
    ),
    "no tensors": (
        lambda folder: only(folder, "net.pt", lambda path: torch.save({"epoch": 3}, path)),
        CheckpointError,
        "no weights by name",
    ),
    "two networks": (
        lambda folder: torch.save(mel_cnn(CHANNELS).state_dict(), folder / "best.pth"),
        CheckpointError,
        r"more than one network: best\.pth, model\.safetensors",
    ),
    "a configuration that is no JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        CheckpointError,
        r"config\.json",
    ),
    "transformers behind another front end": (
        lambda folder: write_wav2vec2(folder, **SMALL_WAVES),
        CardError,
        r"`front_end: \{kind: standardize\}`",
    ),
    "a spectrogram transformer": (
        lambda folder: write_ast(folder, GENRES, **SMALL_AST),
        CardError,
        r"`architecture: ast_classifier`",
    ),
    "transformers of another kind": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'),
        CheckpointError,
        "is a bert model",
    ),
    "a Keras network of other outputs": (
        lambda folder: only(
            folder,
            "net.keras",
            lambda path: write_keras(path, sequential(KERAS_SHAPE, 7, "softmax")),
        ),
        CheckpointError,
        "has 7 outputs, genre_cnn has 10 labels",
    ),
    "a Keras network of other bands": (
        lambda folder: only(
            folder,
            "net.keras",
            lambda path: write_keras(path, sequential((64, 1292, 1), 10, "softmax")),
        ),
        CheckpointError,
        "1292 frames of 128 bands",
    ),
    "a Keras network of three seconds": (
        lambda folder: only(
            folder,
            "net.keras",
            lambda path: write_keras(path, sequential((128, 130, 1), 10, "softmax")),
        ),
        ModelMismatchError,
        r"130 frames or about 3\.02 s, and the card's window has 1292",
    ),
    "a Keras file that is cut off": (
        lambda folder: only(
            folder,
            "net.keras",
            lambda path: (
                write_keras(path, sequential(KERAS_SHAPE, 10, "softmax")),
                cut(path, 0.9),
            ),
        ),
        CheckpointError,
        "cut off",
    ),
}


def write_mel_cnn_as(folder: Path, network: torch.nn.Module) -> None:
    """Write other weights, and leave the description."""
    save_file(network.state_dict(), folder / WEIGHTS)


@pytest.mark.parametrize("fault", MEL_FAULTS)
def test_a_bad_mel_cnn_is_refused_and_the_repository_is_as_before(
    tmp_path: Path, fault: str
) -> None:
    spoil, error, words = MEL_FAULTS[fault]
    folder = write_mel_cnn(tmp_path / "checkpoint", mel_cnn(CHANNELS))
    write_description(folder, layers=LAYERS)
    spoil(folder)
    check_refused(with_files(MEL, folder), tmp_path, error, words)


def test_what_is_proposed_for_weights_without_a_list_is_the_network(tmp_path: Path) -> None:
    folder = write_mel_cnn(tmp_path / "checkpoint", mel_cnn(CHANNELS))
    write_description(folder, layers=None)
    with pytest.raises(CheckpointError) as refusal:
        open_source(MEL, folder)
    proposal = json.loads(str(refusal.value).rpartition("trained it: ")[2])
    assert proposal == {"rows": "bands", "layers": LAYERS}
    write_description(folder, **proposal)
    assert open_source(MEL, folder).labels == GENRES


def test_a_bare_keras_file_asks_for_its_labels(tmp_path: Path) -> None:
    labelled = MEL.with_labels(GENRES)
    path = write_keras(tmp_path / "net", fitting(labelled, KERAS_SHAPE))  # whatever it is called
    with pytest.raises(CheckpointError, match=r"list `labels` in the card genre_cnn"):
        open_source(MEL, path)


def test_a_card_of_another_front_end_is_refused(tmp_path: Path) -> None:
    folder = write_mel_cnn(tmp_path / "checkpoint", mel_cnn(CHANNELS))
    write_description(folder, layers=LAYERS)
    card = Card.model_validate(MEL.model_dump() | {"front_end": {"kind": "fbank"}})
    check_refused(
        with_files(card, folder), tmp_path, CardError, "its front end is fbank, not log_mel"
    )


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("card", [MEL, CCMUSIC])
def test_pickled_code_is_not_run(tmp_path: Path, card: Card) -> None:
    path, sprung = tmp_path / "save.pt", tmp_path / "sprung"
    for write in (torch.save, lambda what, to: to.write_bytes(pickle.dumps(what, protocol=2))):
        write({"features.0.weight": Trap(sprung)}, path)
        single = card.model_copy(update={"source": card.source.model_copy(update={"files": ()})})
        with pytest.raises(CheckpointError, match="safely"):
            export(
                local(single, path), ModelRepository(tmp_path / "m"), SourceCache(tmp_path / "c")
            )
    assert not sprung.exists()


def image_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Write a narrow VGG-19 with a change."""
    weights = dict(vgg19(width=NARROW).state_dict())
    change(weights)
    torch.save(weights, path)


CCMUSIC_FAULTS: dict[str, Fault] = {
    "another architecture": (
        lambda path: torch.save({"conv_proj.weight": torch.zeros(768, 3, 16, 16)}, path),
        CheckpointError,
        r"neither VGG nor AlexNet.*conv_proj\.weight \[768, 3, 16, 16\]",
    ),
    "convolutions of other numbers": (
        lambda path: image_weights(
            path,
            lambda w: [
                w.update({name.replace("49", "55").replace("50", "56"): w.pop(name)})
                for name in list(w)
                if name.startswith(("features.49", "features.50"))
            ],
        ),
        CheckpointError,
        "convolutions are numbered",
    ),
    "convolutions of one axis more": (
        lambda path: image_weights(
            path, lambda w: w.update({"features.0.weight": torch.zeros(4, 3, 5, 5)})
        ),
        CheckpointError,
        r"size mismatch for features\.0\.weight",
    ),
    "a layer is missing": (
        lambda path: image_weights(path, lambda w: w.pop("classifier.4.bias")),
        CheckpointError,
        r"Missing key.*classifier\.4\.bias",
    ),
    "a head for another picture": (
        lambda path: image_weights(
            path, lambda w: w.update({"classifier.1.weight": w["classifier.1.weight"][:, :-1]})
        ),
        CheckpointError,
        "makes no VGG or AlexNet",
    ),
    "other classes": (
        lambda path: write_image_network(path, vgg19(width=NARROW, classes=4)),
        CheckpointError,
        "4 classes apart; this data set's networks have 9 or 16",
    ),
    "nine classes under a card of sixteen": (
        lambda path: write_image_network(path, alexnet(width=NARROW, classes=9)),
        ModelMismatchError,
        r"write `shape: \[9\]` there",
    ),
    "cut off": (
        lambda path: (write_image_network(path, alexnet(width=NARROW)), cut(path, 0.5)),
        CheckpointError,
        "cut off",
    ),
    "nothing": (lambda path: path.write_bytes(b""), CheckpointError, "safely"),
    "a web page": (
        lambda path: path.write_text("<html>404</html>"),
        CheckpointError,
        "safely",
    ),
}


@pytest.mark.parametrize("fault", CCMUSIC_FAULTS)
def test_a_bad_image_network_is_refused_and_the_repository_is_as_before(
    tmp_path: Path, fault: str
) -> None:
    spoil, error, words = CCMUSIC_FAULTS[fault]
    path = tmp_path / "save.pt"
    spoil(path)
    check_refused(local(CCMUSIC, path), tmp_path, error, words)


def test_an_image_network_behind_another_front_end_is_refused(tmp_path: Path) -> None:
    path = write_image_network(tmp_path / "save.pt", alexnet(width=NARROW))
    card = Card.model_validate(CCMUSIC.model_dump() | {"front_end": {"kind": "mfcc"}})
    check_refused(seconds_of(local(card, path), 2.0), tmp_path, CardError, "mfcc, not log_mel")
