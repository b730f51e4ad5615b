"""The mel spectrogram and its logarithm as a torch module, for training and for graphs."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from bandstand.frontends.dft import as_float32, make_spectrum
from bandstand.frontends.parameters import LogMelParameters


class MelBands(nn.Module):
    """Samples `(n, samples)` to the spectrum summed up in mel bands, `(n, frames, n_mels)`."""

    bank: Tensor

    def __init__(self, parameters: LogMelParameters) -> None:
        super().__init__()
        self.config = parameters
        self.spectrum = make_spectrum(parameters.n_fft, parameters.hop)
        bank = self.spectrum.arrange(parameters.filter_bank)
        if parameters.spectrum == "power":
            # One product sums the squares of real and imaginary parts: one pass less.
            bank = np.stack([bank, bank], axis=1)
        bank = bank.reshape(-1, parameters.n_mels)
        self.register_buffer("bank", as_float32(bank), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the bands."""
        squares: Tensor = self.spectrum(self._with_edges(samples)).square()
        if self.config.spectrum == "magnitude":
            squares = squares.sum(dim=3).sqrt()
        return squares.flatten(2) @ self.bank

    def _with_edges(self, samples: Tensor) -> Tensor:
        edge = self.config.edge
        if not edge:
            return samples
        if self.config.padding == "constant":
            return nn.functional.pad(samples, (edge, edge))
        # Slices instead of torch's reflecting pad, which exports as a gather.
        before = samples[:, 1 : edge + 1].flip(1)
        after = samples[:, -edge - 1 : -1].flip(1)
        return torch.cat([before, samples, after], dim=1)


class LogMel(nn.Module):
    """Samples to the mel spectrogram in the scale that the parameters ask for.

    Input: `(n, samples)`, float32, at the parameters' rate. Output: `(n, frames, n_mels)`,
    float32. References and ranges are those of each clip, not of the batch.
    """

    def __init__(self, parameters: LogMelParameters) -> None:
        super().__init__()
        self.config = parameters
        self.bands = MelBands(parameters)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the spectrogram."""
        bands: Tensor = self.bands(samples)
        if self.config.level == "linear":
            return bands
        logarithm = bands.clamp(min=self.config.floor).log()
        if self.config.level == "natural_log":
            return logarithm
        return self._limited(logarithm * (self.config.decibels_per_decade / math.log(10.0)))

    def _limited(self, decibels: Tensor) -> Tensor:
        loudest = decibels.amax(dim=(1, 2), keepdim=True)
        if self.config.dynamic_range_db is not None:
            decibels = torch.maximum(decibels, loudest - self.config.dynamic_range_db)
        return decibels - loudest if self.config.reference == "max" else decibels
