"""Base of torch networks on a log-mel spectrogram: waveforms to logits in one graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from bandstand.errors import CheckpointError, ModelMismatchError
from bandstand.frontends.logmel import LogMel
from bandstand.frontends.parameters import LogMelParameters
from bandstand.models.card import FRONT_END_TENSOR, Card
from bandstand.runners.base import Array
from bandstand_exporters.example_windows import example_windows
from bandstand_exporters.librosa_front_end import librosa_log_mel
from bandstand_exporters.source_model import Examples
from bandstand_exporters.torch_graph import write_graph


class WithFrontEnd(nn.Module):
    """Samples `(n, samples)` to log-mel and logits."""

    def __init__(self, front_end: LogMel, network: nn.Module) -> None:
        super().__init__()
        self.front_end = front_end
        self.network = network

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the network's input and its output."""
        log_mel: Tensor = self.front_end(samples)
        return log_mel, self.network(log_mel)


class LogMelClassifier:
    """An opened checkpoint.

    The reference of an export uses librosa's spectrogram, not our front end.
    """

    def __init__(
        self,
        card: Card,
        network: nn.Module,
        labels: tuple[str, ...],
        *,
        reference: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Check that the network takes the output of the card's front end.

        Args:
            card: its front end is `log_mel`.
            network: `(n, frames, n_mels)` to logits `(n, labels)`.
            labels: the checkpoint's.
            reference: the same as the network, by other means where there are any.

        Raises:
            CardError: the card has another front end.
            ModelMismatchError: other than one input and one output.
            CheckpointError: the network takes another spectrogram, or has other outputs.
        """
        if len(card.inputs) != 1 or len(card.outputs) != 1:
            raise ModelMismatchError(f"{card.name}: its architecture has one input and one output")
        self._card = card
        self._parameters = LogMelParameters.from_card(card)
        self._network = network.eval()
        self._reference = reference or network
        self.labels = labels
        self.framework = f"torch {torch.__version__} on frames of librosa {version('librosa')}"
        self._check_shapes()

    def examples(self) -> Examples:
        """Return windows of real recordings, and silence."""
        return example_windows(self._card)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the logits with librosa and torch."""
        (samples,) = inputs.values()
        log_mel = torch.from_numpy(librosa_log_mel(samples, self._parameters))
        with torch.inference_mode():
            logits = self._reference(log_mel).numpy()
        return {self._card.outputs[0].name: logits}

    def write_onnx(self, path: Path) -> None:
        """Export front end and network as one graph."""
        samples = torch.zeros(2, self._card.window.samples)
        write_graph(
            WithFrontEnd(LogMel(self._parameters), self._network),
            {self._card.inputs[0].name: samples},
            self._card.outputs[0].name,
            path,
            inner=[FRONT_END_TENSOR],
        )

    def _check_shapes(self) -> None:
        frames, bands = self._parameters.frames(self._card.window.samples), self._parameters.n_mels
        try:
            with torch.inference_mode():
                found = tuple(self._network(torch.zeros(1, frames, bands)).shape)
        except RuntimeError as error:
            raise CheckpointError(
                f"{self._card.name}: the checkpoint's network does not take {frames} frames of "
                f"{bands} bands: {error}; if the network is right, change `window` (the frames) or "
                "`n_mels` in the card"
            ) from error
        if found != (1, len(self.labels)):
            raise CheckpointError(
                f"{self._card.name}: the checkpoint's network answers {list(found[1:])}, and there "
                f"are {len(self.labels)} labels"
            )
