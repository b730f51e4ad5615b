"""Files that look like Keras checkpoints: a description of a network, and no weights."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from bandstand.models.card import Card


def layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": config}


def sequential(
    shape: tuple[int, ...], units: int, activation: Any, *between: dict[str, Any]
) -> dict[str, Any]:
    """The description of a network: a picture, what is between, a dense layer."""
    layers = [
        layer("InputLayer", batch_shape=[None, *shape]),
        *between,
        layer("Flatten"),
        layer("Dense", units=units, activation=activation),
    ]
    return {"class_name": "Sequential", "config": {"layers": layers}}


def fitting(card: Card, shape: tuple[int, ...]) -> dict[str, Any]:
    """A description that a card accepts."""
    return sequential(shape, len(card.labels), card.activation)


def write_keras(path: Path, config: Any) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", b"no weights")
    return path
