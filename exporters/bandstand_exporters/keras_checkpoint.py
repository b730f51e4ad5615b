"""Keras checkpoints, `.h5` and `.keras`; their content is checked before Keras loads it."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bandstand.errors import CheckpointError
from bandstand_exporters.keras_description import check_layer, check_option

LARGEST_CONFIG_BYTES = 1024 * 1024
_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class SequentialMetadata:
    """Metadata of a checkpoint's network.

    Attributes:
        input_shape: without the batch axis.
        units: length of the last layer's output.
        activation: the last layer's.
    """

    input_shape: tuple[int, ...]
    units: int
    activation: str


def read_metadata(path: Path) -> SequentialMetadata:
    """Read the metadata of a checkpoint's network, without Keras and without executing code.

    Raises:
        CheckpointError: not a Keras checkpoint, damaged, or not a sequence of the layers that
            `keras_description` allows.
    """
    try:
        config = _read_config(path)
        kind = config.get("registered_name") or config["class_name"]
        if kind != "Sequential" or config["class_name"] != kind:
            raise CheckpointError(f"{path.name} is a {kind}, no Sequential")
        layers = config["config"]["layers"]
        _check(path, config["config"])
        first, last = layers[0]["config"], layers[-1]["config"]
        shape = first.get("batch_shape") or first["batch_input_shape"]
        return SequentialMetadata(
            tuple(map(int, shape[1:])), int(last["units"]), last["activation"]
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path.name}: its description of the network cannot be understood: {error!r}"
        ) from error


def load_sequential(path: Path) -> Any:
    """Load a checkpoint that `read_metadata` accepted, as a `keras.Sequential`, for inference.

    Raises:
        CheckpointError: its weights are damaged, or do not fit its description.
    """
    # Before TensorFlow is imported: its notes on CPU features and missing GPUs.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import keras

    try:
        with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
            # Keras' advice to the author of the model.
            warnings.filterwarnings("ignore", "Do not pass an `input_shape`", UserWarning)
            # Keras decides by the suffix what kind of file it is: it must be what was checked.
            named = Path(directory) / f"checkpoint{_suffix(path)}"
            named.symlink_to(path.resolve())
            return keras.saving.load_model(named, compile=False, safe_mode=True)
    except Exception as error:  # its errors share no base
        raise CheckpointError(f"{path.name}: Keras cannot load it: {error}") from error


def _read_config(path: Path) -> dict[str, Any]:
    """Return the JSON that describes the network."""
    if _suffix(path) == ".keras":
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("config.json")
            if info.file_size > LARGEST_CONFIG_BYTES:
                raise CheckpointError(f"{path.name}: config.json has {info.file_size} bytes")
            text = archive.read(info)
    else:
        import h5py

        try:
            with h5py.File(path) as file:
                text = file.attrs["model_config"]
            if len(text) > LARGEST_CONFIG_BYTES:
                raise CheckpointError(f"{path.name}: model_config has {len(text)} bytes")
        except OSError as error:
            raise CheckpointError(
                f"{path.name} is no whole Keras checkpoint (.h5 or .keras): {error}"
            ) from error
    config = json.loads(text)
    if not isinstance(config, dict):
        raise CheckpointError(f"{path.name}: its description of the network is no JSON object")
    return config


def _suffix(path: Path) -> str:
    """Return the suffix of a file's kind by its first bytes, which only one kind can have.

    A file can be an HDF5 file with a zip archive at its end, which a name decides between.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_HDF5))
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror or error}") from error
    return ".keras" if head.startswith(_ZIP) and zipfile.is_zipfile(path) else ".h5"


def _check(path: Path, network: dict[str, Any]) -> None:
    """Compare the description of a sequence with what is allowed."""
    try:
        for name, value in network.items():
            if name != "layers":
                check_option(name, value)
        for layer in network["layers"]:
            check_layer(layer)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error.message}") from error
