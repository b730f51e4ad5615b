"""The architecture `mel_cnn`: a convolutional network on a log-mel spectrogram, in three forms.

The content of a checkpoint determines its form:

- a folder whose `config.json` has a `model_type`: transformers', left to its own exporter;
- a Keras file, `.keras` or `.h5`: left to `keras_cnn`;
- weights by name, of torch or safetensors: built as the `layers` of `config.json` say.

Beside Keras files and weights, `config.json` has what they do not say: the labels (`id2label`) and,
of weights, `layers` (see `layer_list`) and whether the picture's `rows` are `bands` or `frames`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from bandstand.errors import CardError, CheckpointError, ModelMismatchError
from bandstand.frontends.parameters import LogMelParameters
from bandstand.models.card import Card
from bandstand_exporters import keras_cnn
from bandstand_exporters.file_kind import FileKind, kind_of
from bandstand_exporters.keras_checkpoint import read_metadata
from bandstand_exporters.layer_list import build_layers, describe_groups, propose_layers
from bandstand_exporters.log_mel_classifier import LogMelClassifier
from bandstand_exporters.source_model import Exporter, SourceModel
from bandstand_exporters.torch_weights import read_weights
from bandstand_exporters.transformers_checkpoint import CONFIGURATION, in_order, read_json

LEAST_SEEN = 0.9
"""Of a window's frames, a network must take so many: exact numbers depend on padding."""


class _Delegate(NamedTuple):
    architecture: str
    front_end: str


TRANSFORMERS = {
    "wav2vec2": _Delegate("wav2vec2", "standardize"),
    "hubert": _Delegate("hubert", "standardize"),
    "audio-spectrogram-transformer": _Delegate("ast_classifier", "fbank"),
}
"""The exporters of transformers' models, and the front end that each has, by `model_type`."""


class Description(BaseModel):
    """The `config.json` of a checkpoint that is not transformers'."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    id2label: dict[int, str] | None = None
    """Labels by the number of the output."""
    layers: tuple[str, ...] | None = None
    """The network, see `bandstand_exporters.layer_list`."""
    rows: Literal["bands", "frames"] | None = None
    """What the rows of the picture are that the first layer takes, `(n, 1, rows, columns)`."""


class _OnPictures(nn.Module):
    """Layers that take pictures, given log-mel `(n, frames, n_mels)`."""

    def __init__(self, layers: nn.Sequential, *, bands_first: bool) -> None:
        super().__init__()
        self.layers = layers
        self.bands_first = bands_first

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return the logits."""
        picture = log_mel.transpose(1, 2) if self.bands_first else log_mel
        logits: Tensor = self.layers(picture[:, None])
        return logits


def open_source(card: Card, checkpoint: Path) -> SourceModel:
    """Open a checkpoint, a file or a folder of it and `config.json`; no code of it is run.

    Raises:
        CheckpointError: of no form that is known here, damaged, or of other sizes than the card's;
            or something that only its author knows is missing, and the message says what to write
            where.
        CardError: the card's front end is not the checkpoint's.
        ModelMismatchError: the card has other inputs, outputs or another window.
    """
    if checkpoint.is_dir() and (checkpoint / CONFIGURATION).is_file():
        config = read_json(checkpoint, CONFIGURATION)
        if "model_type" in config:
            return _open_transformers(card, checkpoint, str(config["model_type"]))
        try:
            description = Description.model_validate(config)
        except ValidationError as error:
            raise CheckpointError(f"{CONFIGURATION} of the checkpoint: {error}") from error
    else:
        description = Description()
    file, kind = _find_network(checkpoint)
    if kind == "keras":
        return _open_keras(card, file, description)
    return _open_weights(card, file, description)


def _find_network(checkpoint: Path) -> tuple[Path, FileKind]:
    """Return the only file with a network, and its kind."""
    files = sorted(checkpoint.iterdir()) if checkpoint.is_dir() else [checkpoint]
    found = [(file, kind) for file in files if file.is_file() and (kind := kind_of(file))]
    if len(found) == 1:
        return found[0]
    looked_at = ", ".join(file.name for file in files) or "nothing"
    if found:
        several = ", ".join(file.name for file, _ in found)
        raise CheckpointError(f"{checkpoint.name} holds more than one network: {several}")
    raise CheckpointError(
        f"{checkpoint.name} holds no network that is known here (a Keras file, weights of torch or "
        f"safetensors, a transformers folder with {CONFIGURATION}); found: {looked_at}"
    )


def _open_transformers(card: Card, folder: Path, model_type: str) -> SourceModel:
    delegate = TRANSFORMERS.get(model_type)
    if delegate is None:
        raise CheckpointError(
            f"the checkpoint is a {model_type} model of transformers; of those, "
            f"{', '.join(TRANSFORMERS)} can be exported"
        )
    if card.front_end.kind != delegate.front_end:
        raise CardError(
            f"{card.name}: the checkpoint is a {model_type} model of transformers, whose front end "
            f"is {delegate.front_end}, and the card's is {card.front_end.kind}: write `architecture"
            f": {delegate.architecture}` and `front_end: {{kind: {delegate.front_end}}}` there, "
            "and the rate of its preprocessor_config.json"
        )
    exporter = cast(
        "Exporter", importlib.import_module(f"bandstand_exporters.{delegate.architecture}")
    )
    return exporter.open_source(card, folder)


def _open_keras(card: Card, file: Path, description: Description) -> SourceModel:
    labelled = card.with_labels(_labels(card, file, description))
    _check_window(labelled, file)
    return keras_cnn.open_source(labelled, file)


def _open_weights(card: Card, file: Path, description: Description) -> SourceModel:
    weights = read_weights(file)
    if description.layers is None or description.rows is None:
        raise CheckpointError(_how_to_describe(file, weights))
    layers = build_layers(description.layers, weights)
    network = _OnPictures(layers, bands_first=description.rows == "bands")
    return LogMelClassifier(card, network, _labels(card, file, description))


def _labels(card: Card, file: Path, description: Description) -> tuple[str, ...]:
    if description.id2label is not None:
        return in_order(description.id2label)
    if card.labels:
        return card.labels
    raise CheckpointError(
        f"{file.name} does not name its labels: put it into a folder with a {CONFIGURATION} that "
        'does, as in {"id2label": {"0": "blues", "1": "classical"}}, or list `labels` in the card '
        f"{card.name}; which output is which, only the code that trained it says"
    )


def _check_window(card: Card, file: Path) -> None:
    """Refuse a Keras network that would use only the start of each window."""
    parameters = LogMelParameters.from_card(card)
    frames, shape = parameters.frames(card.window.samples), read_metadata(file).input_shape
    sides = sorted(shape[:2], key=lambda side: side == parameters.n_mels)
    if parameters.n_mels in shape[:2] and sides[0] < LEAST_SEEN * frames:
        seconds = sides[0] * parameters.hop / parameters.sample_rate
        raise ModelMismatchError(
            f"{card.name}: {file.name} takes {list(shape)}, {sides[0]} frames or about "
            f"{seconds:.2f} s, and the card's window has {frames}: change `window` and the shape "
            "of `inputs` in the card"
        )


def _how_to_describe(file: Path, weights: Mapping[str, Tensor]) -> str:
    proposal = json.dumps({"rows": "bands", "layers": propose_layers(weights)})
    return (
        f"{file.name} holds weights, and not how they are connected: put it into a folder with a "
        f"{CONFIGURATION} whose `rows` and `layers` say it. It has {describe_groups(weights)}. "
        f"Networks of such weights are most often this; compare it with the code that trained it: "
        f"{proposal}"
    )
