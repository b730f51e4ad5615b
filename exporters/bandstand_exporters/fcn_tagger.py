"""The architecture `fcn_tagger`: five blocks of convolutions over a log-mel spectrogram.

Choi, Fazekas and Sandler, "Automatic tagging using deep convolutional neural networks" (ISMIR
2016), with the sizes of Won et al., "Evaluation of CNN-based automatic music tagging models" (SMC
2020), whose checkpoints these are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bandstand.errors import CheckpointError, ModelMismatchError
from bandstand.frontends.logmel import LogMel
from bandstand.frontends.parameters import LogMelParameters
from bandstand.models.card import FRONT_END_TENSOR, Card
from bandstand.runners.base import Array
from bandstand_exporters.example_windows import example_windows
from bandstand_exporters.log_mel_classifier import WithFrontEnd
from bandstand_exporters.source_model import Examples
from bandstand_exporters.torch_graph import write_graph

CHANNELS = (64, 128, 128, 128, 64)
POOLS = ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4))
"""Bands and frames of the max pooling of each block."""
_BANK = "spec.mel_scale.fb"
_WINDOW = "spec.spectrogram.window"
_BANK_ROUNDING = 2e-5
"""The checkpoints' banks were computed in float32; ours is not."""


class Block(nn.Sequential):
    """Convolution 3 x 3, batch norm, ReLU, largest of each patch."""

    def __init__(self, inputs: int, outputs: int, pool: tuple[int, int]) -> None:
        super().__init__()
        self.add_module("conv", nn.Conv2d(inputs, outputs, 3, padding=1))
        self.add_module("bn", nn.BatchNorm2d(outputs))
        self.add_module("relu", nn.ReLU())
        self.add_module("pool", nn.MaxPool2d(pool))


class FcnNetwork(nn.Module):
    """Log-mel `(n, frames, n_mels)` to logits `(n, labels)`.

    Its parts are called as in the checkpoints.
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.spec_bn = nn.BatchNorm2d(1)
        sizes = zip((1, *CHANNELS), CHANNELS, POOLS, strict=False)
        for number, (inputs, outputs, pool) in enumerate(sizes, start=1):
            self.add_module(f"layer{number}", Block(inputs, outputs, pool))
        self.dense = nn.Linear(CHANNELS[-1], labels)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return the logits."""
        image: Tensor = self.spec_bn(log_mel.transpose(1, 2)[:, None])
        for number in range(1, len(CHANNELS) + 1):
            image = self.get_submodule(f"layer{number}")(image)
        logits: Tensor = self.dense(image.flatten(1))
        return logits


class FcnTagger:
    """An opened checkpoint.

    The reference of an export is not our front end, but that of the training: torchaudio's mel
    spectrogram, with the filter bank of the checkpoint.
    """

    def __init__(self, card: Card, weights: dict[str, Tensor]) -> None:
        if len(card.inputs) != 1 or len(card.outputs) != 1:
            raise ModelMismatchError(f"{card.name}: an fcn_tagger has one input and one output")
        self._card = card
        self._front_end = LogMelParameters.from_card(card)
        self._bank, self._window = weights.pop(_BANK), weights.pop(_WINDOW)
        self._check_front_end()
        self._network = FcnNetwork(len(card.labels)).eval()
        try:
            self._network.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(f"{card.name}: not an FCN tagger: {error}") from error
        self.framework = f"torch {torch.__version__}"
        self.labels = card.labels  # the checkpoint has none

    def examples(self) -> Examples:
        """Return windows of real recordings, and silence."""
        return example_windows(self._card)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the logits."""
        (samples,) = inputs.values()
        with torch.inference_mode():
            logits = self._network(self._torchaudio_log_mel(torch.from_numpy(samples)))
        return {self._card.outputs[0].name: logits.numpy()}

    def write_onnx(self, path: Path) -> None:
        """Export our front end and the network as one graph."""
        samples = torch.zeros(2, self._card.window.samples)
        write_graph(
            WithFrontEnd(LogMel(self._front_end), self._network),
            {self._card.inputs[0].name: samples},
            self._card.outputs[0].name,
            path,
            inner=[FRONT_END_TENSOR],
        )

    def _torchaudio_log_mel(self, samples: Tensor) -> Tensor:
        spectrum = torch.stft(
            samples,
            self._front_end.n_fft,
            self._front_end.hop,
            window=self._window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        mel = spectrum.abs().square().transpose(1, 2) @ self._bank
        decibels: Tensor = 10 / math.log(10) * mel.clamp(min=1e-10).log()
        return decibels

    def _check_front_end(self) -> None:
        """Compare the card's front end with the buffers that the checkpoint holds.

        Raises:
            ModelMismatchError: the network was trained with another one.
        """
        bank = torch.from_numpy(self._front_end.filter_bank.T.copy())
        window = torch.hann_window(self._front_end.n_fft)
        same = (
            bank.shape == self._bank.shape
            and window.shape == self._window.shape
            and torch.allclose(bank, self._bank, rtol=0, atol=_BANK_ROUNDING)
            and torch.allclose(window, self._window, rtol=0, atol=1e-6)
        )
        if not same:
            raise ModelMismatchError(
                f"{self._card.name}: the checkpoint's window or filter bank is not the card's"
            )


def open_source(card: Card, checkpoint: Path) -> FcnTagger:
    """Open a checkpoint; only tensors are read from it, nothing in it is executed.

    Raises:
        CheckpointError: it has other content than tensors, is damaged, or has other weights.
        ModelMismatchError: it was trained with another front end than the card's.
    """
    try:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise any exception
        raise CheckpointError(f"{checkpoint.name} cannot be read safely: {error}") from error
    if not isinstance(weights, dict) or not {_BANK, _WINDOW} <= weights.keys():
        raise CheckpointError(f"{checkpoint.name} holds no FCN tagger with its mel spectrogram")
    return FcnTagger(card, dict(weights))
