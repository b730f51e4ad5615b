"""The half of a `keras_cnn` that torch exports: waveforms to what the network sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from bandstand.frontends.logmel import LogMel
from bandstand.frontends.mfcc import Mfcc
from bandstand.frontends.parameters import LogMelParameters, MfccParameters
from exporters.torch_graph import write_graph


class Picture(nn.Module):
    """Waveforms `(n, samples)` to pictures of one channel, `(n, rows, columns, 1)`."""

    def __init__(self, parameters: LogMelParameters, arrange: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.front_end: nn.Module
        if isinstance(parameters, MfccParameters):
            self.front_end = Mfcc(parameters)
        else:
            self.front_end = LogMel(parameters)
        self._arrange = arrange

    def forward(self, samples: Tensor) -> Tensor:
        """Return the pictures."""
        return self._arrange(self.front_end(samples))


def write_picture(
    parameters: LogMelParameters, samples: int, arrange: Callable[[Tensor], Tensor], path: Path
) -> None:
    """Write the graph from waveforms to pictures.

    Args:
        parameters: of the front end.
        samples: length of a waveform.
        arrange: makes pictures of frames, `(n, frames, bands)`.
        path: the ONNX file.
    """
    picture = Picture(parameters, arrange)
    write_graph(picture, {"samples": torch.zeros(2, samples)}, "picture", path)
