"""The architecture `ccmusic`: image networks of torchvision's forms on mel spectrogram pictures.

Zhou et al., "CCMusic: An Open and Diverse Database for Chinese Music Information Retrieval
Research" (TISMIR 2025). Their checkpoints are state dicts: numbers of layers and shapes of weights
say which VGG or AlexNet it is (Simonyan and Zisserman 2015; Krizhevsky 2014). Between the linear
layers of the head is a ReLU each, in their head of four as in torchvision's of three.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bandstand.errors import CheckpointError, ModelMismatchError
from bandstand.frontends.parameters import LogMelParameters
from bandstand.models.card import Card
from bandstand_exporters.log_mel_classifier import LogMelClassifier
from bandstand_exporters.mel_picture import MelPicture, colour_table
from bandstand_exporters.torch_weights import names_of, read_weights

PICTURE_SIZE = 224
"""Rows and columns; what all networks of these forms were trained with."""
LABELS = {
    9: (
        *("Symphony", "Opera", "Solo", "Chamber", "Pop"),
        *("Dance_and_house", "Indie", "Soul_or_RnB", "Rock"),
    ),
    16: (
        *("Symphony", "Opera", "Solo", "Chamber", "Pop_vocal_ballad", "Adult_contemporary"),
        *("Teen_pop", "Contemporary_dance_pop", "Dance_pop", "Classic_indie_pop"),
        *("Chamber_cabaret_and_art_pop", "Soul_or_RnB", "Adult_alternative_rock"),
        *("Uplifting_anthemic_rock", "Soft_rock", "Acoustic_pop"),
    ),
}
"""The classes of the data set's second and third level, in its order; by how many there are."""

_VGG_POOLS = 5
_ALEXNET = {0: (11, 4, 2), 3: (5, 1, 2), 6: (3, 1, 1), 8: (3, 1, 1), 10: (3, 1, 1)}
"""Kernel, stride and padding of the convolutions by their numbers."""
_ALEXNET_POOLS = (2, 5, 12)
_CONV_AXES, _LINEAR_AXES = 4, 2


class _Network(nn.Module):
    """Pictures `(n, 3, 224, 224)` to logits; its parts are called as in the checkpoints."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.classifier(self.features(pictures).flatten(1))
        return logits


def open_source(card: Card, checkpoint: Path) -> LogMelClassifier:
    """Open a checkpoint; only tensors are read from it, nothing in it is executed.

    Raises:
        CheckpointError: damaged, no weights, of another architecture, or with other classes.
        ModelMismatchError: the card has other than one input and one output, or other outputs.
        CardError: the card's front end is not `log_mel`.
    """
    weights = read_weights(checkpoint)
    network = build_network(weights, checkpoint.name)
    labels = _labels(card, weights, checkpoint.name)
    parameters = LogMelParameters.from_card(card)
    frames = parameters.frames(card.window.samples)
    picture = MelPicture(frames, parameters.n_mels, PICTURE_SIZE)

    def reference(log_mel: Tensor) -> Tensor:
        logits: Tensor = network(draw(log_mel))
        return logits

    return LogMelClassifier(card, nn.Sequential(picture, network), labels, reference=reference)


def build_network(weights: Mapping[str, Tensor], name: str) -> nn.Module:
    """Return the VGG or AlexNet that the weights are of, in evaluation mode.

    Args:
        weights: of a state dict.
        name: of the file, for errors.

    Raises:
        CheckpointError: they are of none.
    """
    convolutions = _numbered(weights, "features", _CONV_AXES)
    linear = _numbered(weights, "classifier", _LINEAR_AXES)
    if not convolutions or not linear:
        raise CheckpointError(
            f"{name} is neither VGG nor AlexNet, which have convolutions called features.N and "
            f"linear layers classifier.N; it holds {names_of(weights)}"
        )
    if tuple(convolutions) == tuple(_ALEXNET):
        features = _alexnet_features(convolutions)
    else:
        features = _vgg_features(weights, convolutions, name)
    network = _Network(features, _head(linear))
    try:
        network.load_state_dict(dict(weights))
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, PICTURE_SIZE, PICTURE_SIZE))
    except RuntimeError as error:
        raise CheckpointError(f"{name} makes no VGG or AlexNet: {error}") from error
    return network


def draw(log_mel: Tensor) -> Tensor:
    """Return what `MelPicture` does, by numpy's and torch's own interpolation."""
    values = log_mel.numpy()
    smallest, largest = (f(values, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    share = (values - smallest) / np.where(largest > smallest, largest - smallest, 1.0)
    table = colour_table()
    middles = (np.arange(len(table)) + 0.5) / len(table)
    channels = np.stack([np.interp(share, middles, table[:, c]) for c in range(3)], axis=1)
    pictures = torch.from_numpy(channels.transpose(0, 1, 3, 2)[:, :, ::-1].astype(np.float32))
    resized = nn.functional.interpolate(
        pictures, size=(PICTURE_SIZE, PICTURE_SIZE), mode="bilinear", antialias=True
    )
    return resized * 2.0 - 1.0


def _labels(card: Card, weights: Mapping[str, Tensor], name: str) -> tuple[str, ...]:
    """Return the names of the classes that the last layer has."""
    classes = len(list(_numbered(weights, "classifier", _LINEAR_AXES).values())[-1])
    if classes not in LABELS:
        raise CheckpointError(
            f"{name} tells {classes} classes apart; this data set's networks have 9 or 16"
        )
    if card.outputs[0].shape != (classes,):
        raise ModelMismatchError(
            f"{card.name}: {name} tells {classes} classes apart, the card's output has the shape "
            f"{list(card.outputs[0].shape)}: write `shape: [{classes}]` there"
        )
    return LABELS[classes]


def _numbered(weights: Mapping[str, Tensor], part: str, axes: int) -> dict[int, Tensor]:
    """Return the weights of so many axes that are called `part.N.weight`, by N, in order."""
    found = {}
    for name, tensor in weights.items():
        head, _, rest = name.partition(".")
        number, _, kind = rest.partition(".")
        if head == part and number.isdigit() and kind == "weight" and tensor.ndim == axes:
            found[int(number)] = tensor
    return dict(sorted(found.items()))


def _vgg_features(
    weights: Mapping[str, Tensor], convolutions: Mapping[int, Tensor], name: str
) -> nn.Sequential:
    """A number that is free before the next convolution is that of a pooling layer."""
    features = nn.Sequential()
    starts = list(convolutions)
    pools = 0
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        outputs, inputs = convolutions[start].shape[:2]
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1)]
        if f"features.{start + 1}.running_mean" in weights:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU())
        free = 1 if following is None else following - start - len(layers)
        if free == 1:
            layers.append(nn.MaxPool2d(2))
            pools += 1
        elif free:
            break
        for number, layer in enumerate(layers, start):
            features.add_module(str(number), layer)
    if pools != _VGG_POOLS or free not in (0, 1):
        raise CheckpointError(
            f"{name} is neither VGG nor AlexNet: its convolutions are numbered {starts}"
        )
    return features


def _alexnet_features(convolutions: Mapping[int, Tensor]) -> nn.Sequential:
    layers: dict[int, nn.Module] = {number: nn.MaxPool2d(3, 2) for number in _ALEXNET_POOLS}
    for number, weight in convolutions.items():
        outputs, inputs = weight.shape[:2]
        layers[number] = nn.Conv2d(inputs, outputs, *_ALEXNET[number])
        layers[number + 1] = nn.ReLU()
    return _sequence(layers)


def _head(linear: Mapping[int, Tensor]) -> nn.Sequential:
    layers: dict[int, nn.Module] = {}
    for number, weight in linear.items():
        outputs, inputs = weight.shape
        layers[number] = nn.Linear(inputs, outputs)
        layers[number + 1] = nn.ReLU()
    del layers[max(layers)]
    return _sequence(layers)


def _sequence(layers: Mapping[int, nn.Module]) -> nn.Sequential:
    sequence = nn.Sequential()
    for number, layer in sorted(layers.items()):
        sequence.add_module(str(number), layer)
    return sequence
