"""Keras checkpoints that are damaged, foreign or dangerous are refused before Keras sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import pytest

from bandstand.errors import CardError, CheckpointError
from bandstand.models.card import Card, FrontEnd
from bandstand_exporters.keras_checkpoint import read_metadata
from bandstand_exporters.keras_cnn import open_source
from harness.cards import get_card
from tests.keras_files import fitting, layer, sequential, write_keras

CARD = get_card("annoteator_drum_cnn")
SHAPE = (128, 18, 1)


def refused(tmp_path: Path, config: Any, card: Card = CARD) -> str:
    with pytest.raises(CheckpointError) as refusal:
        open_source(card, write_keras(tmp_path / "net.keras", config))
    return str(refusal.value)


def test_what_fits_is_read(tmp_path: Path) -> None:
    metadata = read_metadata(write_keras(tmp_path / "net.keras", fitting(CARD, SHAPE)))
    assert (metadata.input_shape, metadata.units, metadata.activation) == (SHAPE, 6, "sigmoid")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (sequential(SHAPE, 6, "sigmoid", layer("Lambda", function="bytes of code")), "Lambda"),
        (sequential(SHAPE, 6, {"class_name": "__lambda__", "config": {}}), "activation"),
        (sequential(SHAPE, 6, "sigmoid", layer("TorchModuleWrapper")), "TorchModuleWrapper"),
        (
            sequential(SHAPE, 6, "sigmoid", {"module": "os", "class_name": "Dense", "config": {}}),
            "os.Dense",
        ),
        ({"class_name": "Functional", "config": {"layers": []}}, "Functional"),
        ({"class_name": "Sequential", "config": {"layers": []}}, "cannot be understood"),
        ({"class_name": "Sequential"}, "cannot be understood"),
        (["Sequential"], "no JSON object"),
        (sequential(SHAPE, 7, "sigmoid"), "has 7 outputs, annoteator_drum_cnn has 6 labels"),
        (sequential(SHAPE, 6, "softmax"), "ends in softmax"),
        (sequential((126, 13, 1), 6, "sigmoid"), "18 frames of 128 bands"),
        (sequential((128, 19, 1), 6, "sigmoid"), "18 frames of 128 bands"),
        (sequential((128,), 6, "sigmoid"), "18 frames of 128 bands"),
        (sequential((128, 18, 3), 6, "sigmoid"), "18 frames of 128 bands"),
    ],
)
def test_networks_that_are_not_the_cards_are_refused(
    tmp_path: Path, config: Any, words: str
) -> None:
    assert words in refused(tmp_path, config)


def in_a_layer(**config: Any) -> dict[str, Any]:
    """A network with a convolution of these options, beside what a real one has."""
    usual = {
        "name": "conv2d",
        "trainable": True,
        "dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}},
        "filters": 4,
        "kernel_size": [3, 3],
        "activation": "relu",
        "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
        "bias_initializer": "zeros",
        "kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.01}},
        "bias_constraint": None,
    }
    return sequential(SHAPE, 6, "sigmoid", layer("Conv2D", **usual | config))


CODE = {"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "exec"}


def test_the_options_of_usual_networks_are_allowed(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "net.keras", in_a_layer())
    assert read_metadata(path).units == 6


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (in_a_layer(kernel_initializer=CODE), "builtins.function"),
        (in_a_layer(kernel_initializer="exec"), "'exec'"),
        (
            in_a_layer(bias_initializer={"class_name": "Zeros", "module": "os", "config": {}}),
            "os.Zeros",
        ),
        (
            in_a_layer(
                kernel_initializer={
                    "class_name": "Zeros",
                    "config": {},
                    "registered_name": "mine>Zeros",
                }
            ),
            "mine>Zeros",
        ),
        (
            in_a_layer(kernel_initializer={"class_name": "Constant", "config": {"value": CODE}}),
            "object inside",
        ),
        (in_a_layer(kernel_regularizer=CODE), "builtins.function"),
        (in_a_layer(activity_regularizer={"class_name": "__lambda__", "config": {}}), "__lambda__"),
        (in_a_layer(bias_constraint=CODE), "builtins.function"),
        (in_a_layer(dtype={"class_name": "QuantizedDTypePolicy", "config": {}}), "Quantized"),
        (in_a_layer(filters=CODE), "builtins.function"),
        (in_a_layer(kernel_size=[3, CODE]), "object in it"),
        (
            sequential(
                SHAPE, 6, "sigmoid", layer("Dropout", rate=0.5) | {"registered_name": "m>D"}
            ),
            "m>D",
        ),
        (
            sequential(SHAPE, 6, "sigmoid", layer("Dropout") | {"compile_config": CODE}),
            "compile_config",
        ),
        (fitting(CARD, SHAPE) | {"registered_name": "mine>Sequential"}, "mine>Sequential"),
    ],
)
def test_no_object_of_another_class_is_made(tmp_path: Path, config: Any, words: str) -> None:
    assert words in refused(tmp_path, config)


def test_a_file_of_two_kinds_is_loaded_as_the_kind_that_was_checked(
    tmp_path: Path,
) -> None:
    """An HDF5 file whose network has code in it, with an archive of an allowed one at its end."""
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        bad = sequential(SHAPE, 6, "sigmoid", layer("Lambda", function="bytes of code"))
        file.attrs["model_config"] = json.dumps(bad)
    harmless = write_keras(tmp_path / "harmless.keras", fitting(CARD, SHAPE))
    path.write_bytes(path.read_bytes() + harmless.read_bytes())
    assert zipfile.is_zipfile(path)
    for name in ("net.h5", "net.keras"):
        with pytest.raises(CheckpointError, match="Lambda"):
            read_metadata(path.rename(tmp_path / name))
        path = tmp_path / name


def test_an_h5_is_looked_at_as_well(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file.attrs["other"] = 1
    with pytest.raises(CheckpointError, match="cannot be understood"):
        open_source(CARD, path)
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = '{"class_name": "Functional"}'
    with pytest.raises(CheckpointError, match="Functional"):
        open_source(CARD, path)
    content = path.read_bytes()
    for kept in (0, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:kept])
        with pytest.raises(CheckpointError, match="no whole Keras checkpoint"):
            open_source(CARD, path)


def test_a_description_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    config = fitting(CARD, SHAPE) | {"padding": " " * 2_000_000}
    assert "bytes" in refused(tmp_path, config)


def test_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.h5", tmp_path):
        with pytest.raises(CheckpointError):
            open_source(CARD, path)


def test_a_card_of_another_front_end_is_refused(tmp_path: Path) -> None:
    card = CARD.model_copy(update={"front_end": FrontEnd(kind="fbank")})
    path = write_keras(tmp_path / "net.keras", fitting(card, SHAPE))
    with pytest.raises(CardError, match="fbank"):
        open_source(card, path)


def test_nothing_was_loaded_to_find_out() -> None:
    code = (
        "import sys, bandstand_exporters.keras_cnn\n"
        "print(sorted({'tensorflow', 'keras', 'torch', 'librosa'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert run.stdout.strip() == "[]"
