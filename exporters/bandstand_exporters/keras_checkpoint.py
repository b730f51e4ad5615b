"""Keras checkpoints, `.h5` and `.keras`; their content is checked before Keras loads it."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bandstand.errors import CheckpointError

LAYERS = {
    *("InputLayer", "Conv2D", "MaxPooling2D", "AveragePooling2D", "BatchNormalization"),
    *("Activation", "Flatten", "Dense", "Dropout", "GlobalAveragePooling2D"),
}
"""Allowed layers; `Lambda`, which contains code, is not allowed."""
ACTIVATIONS = {"relu", "elu", "tanh", "sigmoid", "softmax", "linear"}
LARGEST_CONFIG_BYTES = 1024 * 1024


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
        CheckpointError: not a Keras checkpoint, damaged, not a sequence of `LAYERS`, or with code.
    """
    try:
        config = _read_config(path)
        if config["class_name"] != "Sequential":
            raise CheckpointError(f"{path.name} is a {config['class_name']}, no Sequential")
        layers = config["config"]["layers"]
        for layer in layers:
            _check_layer(path, layer)
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
        with warnings.catch_warnings():
            # Keras' advice to the author of the model.
            warnings.filterwarnings("ignore", "Do not pass an `input_shape`", UserWarning)
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # its errors share no base
        raise CheckpointError(f"{path.name}: Keras cannot load it: {error}") from error


def _read_config(path: Path) -> dict[str, Any]:
    """Return the JSON that describes the network."""
    if zipfile.is_zipfile(path):
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
        except OSError as error:
            raise CheckpointError(
                f"{path.name} is no whole Keras checkpoint (.h5 or .keras): {error}"
            ) from error
    config = json.loads(text)
    if not isinstance(config, dict):
        raise CheckpointError(f"{path.name}: its description of the network is no JSON object")
    return config


def _check_layer(path: Path, layer: dict[str, Any]) -> None:
    kind, module = layer["class_name"], layer.get("module")
    if kind not in LAYERS or module not in (None, "keras.layers"):
        raise CheckpointError(
            f"{path.name}: a layer {module or 'keras.layers'}.{kind} is not allowed here, only "
            f"{', '.join(sorted(LAYERS))}"
        )
    activation = layer["config"].get("activation", "linear")
    # Code comes as an object, not as a name.
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise CheckpointError(f"{path.name}: the activation {activation!r} is not allowed here")
