"""Checkpoints of convolutional networks on spectrograms: seeded random weights, any size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.transformers_checkpoints import GENRES

REAL_CHANNELS = (32, 64, 128, 256)
VGG19 = (64, 64, 0, 128, 128, 0, *(256,) * 4, 0, *(512,) * 4, 0, *(512,) * 4, 0)
"""Channels of VGG-19's convolutions; 0 is a pooling layer."""
VGG19_CELLS = 49
"""Pixels after the convolutions of a picture of 224 x 224."""
ALEXNET_CELLS = 36

Weights = dict[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)


class MelCnn(nn.Module):
    """Blocks of convolution, norm, ReLU and pooling, averaged, and two linear layers."""

    def __init__(self, channels: Sequence[int], labels: int) -> None:
        super().__init__()
        inputs = 1
        for number, outputs in enumerate(channels, 1):
            self.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, 3, padding=1))
            self.add_module(f"bn{number}", nn.BatchNorm2d(outputs))
            inputs = outputs
        self.blocks = len(channels)
        self.fc1 = nn.Linear(inputs, 2 * inputs)
        self.fc2 = nn.Linear(2 * inputs, labels)

    def forward(self, log_mel: Tensor) -> Tensor:
        picture = log_mel.transpose(1, 2)[:, None]
        for number in range(1, self.blocks + 1):
            normed = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(picture))
            picture = nn.functional.max_pool2d(normed.relu(), 2)
        logits: Tensor = self.fc2(self.fc1(picture.mean(dim=(2, 3))).relu())
        return logits


def mel_cnn(channels: Sequence[int] = REAL_CHANNELS, labels: int = len(GENRES)) -> MelCnn:
    """Return a network whose logits differ from clip to clip."""
    return _drawn(MelCnn(channels, labels))


def layers_of(blocks: int) -> list[str]:
    """Return the list of layers of a `MelCnn`."""
    lines = []
    for number in range(1, blocks + 1):
        lines += [f"conv{number} padding=1x1", f"bn{number}", "relu", "max_pool size=2"]
    return [*lines, "global_average_pool", "fc1", "relu", "fc2"]


def write_description(folder: Path, **changes: Any) -> Path:
    """Write the `config.json` of a `MelCnn` of real size, with changes; None leaves a key out."""
    fields: dict[str, Any] = {
        "id2label": dict(enumerate(GENRES)),
        "rows": "bands",
        "layers": layers_of(len(REAL_CHANNELS)),
    }
    fields = {key: value for key, value in (fields | changes).items() if value is not None}
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def write_mel_cnn(folder: Path, network: nn.Module | None = None, *, safe: bool = True) -> Path:
    """Write a `MelCnn` of real size as a folder, of safetensors or what training loops save."""
    weights = (network or mel_cnn()).state_dict()
    write_description(folder)
    if safe:
        save_file(weights, folder / "model.safetensors")
    else:
        parallel = {f"module.{name}": tensor for name, tensor in weights.items()}
        torch.save({"epoch": 3, "state_dict": parallel}, folder / "best_model.pth")
    return folder


def write_keras_cnn(path: Path, shape: tuple[int, int, int], labels: int = len(GENRES)) -> Path:
    """Write a Keras network of such pictures, `.keras` or `.h5`; takes TensorFlow."""
    import keras

    keras.utils.set_random_seed(0)
    # Without biases silence has equal logits, and no best label.
    drawn = {"bias_initializer": keras.initializers.RandomNormal(stddev=0.1), "activation": "relu"}
    blocks = []
    for channels in (16, 32, 64):
        blocks += [
            keras.layers.Conv2D(channels, 3, padding="same", **drawn),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(4),
        ]
    network = keras.Sequential(
        [
            keras.Input(shape),
            *blocks,
            keras.layers.Flatten(),
            keras.layers.Dense(64, **drawn),
            keras.layers.Dense(labels, **drawn | {"activation": "softmax"}),
        ]
    )
    network.save(path)
    return path


class ImageNetwork(nn.Module):
    """A network of torchvision's forms, its parts and their numbers as there."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(pictures).flatten(1))
        return logits


def vgg19(*, width: float = 1.0, classes: int = 16, norms: bool = True) -> ImageNetwork:
    """Return VGG-19 with batch norms, its channels times `width`, and a head of four layers."""
    layers: list[nn.Module] = []
    inputs = 3
    for channels in VGG19:
        if not channels:
            layers.append(nn.MaxPool2d(2))
            continue
        outputs = round(width * channels)
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()] if norms else [nn.ReLU()]
        inputs = outputs
    return _drawn(ImageNetwork(nn.Sequential(*layers), _head(inputs * VGG19_CELLS, classes)))


def alexnet(*, width: float = 1.0, classes: int = 16) -> ImageNetwork:
    """Return AlexNet, its channels times `width`, and a head of four layers."""
    first, second, third, fourth = (round(width * n) for n in (64, 192, 384, 256))
    features = nn.Sequential(
        *(nn.Conv2d(3, first, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(first, second, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(second, third, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(third, fourth, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(fourth, fourth, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )
    return _drawn(ImageNetwork(features, _head(fourth * ALEXNET_CELLS, classes)))


def write_image_network(path: Path, network: nn.Module) -> Path:
    """Write the state dict as the data set's authors do."""
    torch.save(network.state_dict(), path)
    return path


def _head(inputs: int, classes: int) -> nn.Sequential:
    """Return four linear layers whose sizes fall in equal ratios."""
    ratio = (inputs / classes) ** 0.25
    sizes = [inputs, *(round(classes * ratio**power) for power in (3, 2, 1)), classes]
    layers: list[nn.Module] = [nn.Dropout()]
    for number in range(3):
        layers += [nn.Linear(sizes[number], sizes[number + 1]), nn.ReLU()]
        layers += [nn.Dropout()] * (number < 2)
    return nn.Sequential(*layers, nn.Linear(sizes[3], classes))


def _drawn(network: Network) -> Network:
    """Draw weights that keep the variance of activations, and norms that have an effect."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.normal_(module.bias, std=0.1) if module.bias is not None else None
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, mean=1.0, std=0.1)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    network.eval()
    return network
