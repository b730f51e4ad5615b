"""Kaldi's filter bank as a torch module, for graphs."""

from __future__ import annotations

import numpy as np
import scipy.signal
import torch
from torch import Tensor, nn
from torch.nn import functional

from bandstand.frontends.dft import DoubleArray, as_float32, fourier_matrix
from bandstand.frontends.parameters import FbankParameters


class Fbank(nn.Module):
    """Samples `(n, samples)` to standardised log energies `(n, frames, n_mels)`, both float32.

    All that happens to a frame before its squares is linear, and becomes one convolution.
    """

    kernel: Tensor
    bank: Tensor

    def __init__(self, parameters: FbankParameters) -> None:
        super().__init__()
        self.config = parameters
        kernel = as_float32(_kernel(parameters))[:, None, :]
        self.register_buffer("kernel", kernel, persistent=False)
        bank = as_float32(parameters.filter_bank[:, :-1])
        self.register_buffer("bank", bank, persistent=False)

    def forward(self, samples: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the log energies; frames after the audio are those of padding with 0.

        Args:
            samples: `(n, samples)`, at least one frame.
            lengths: `(n,)`, int64: how many samples of each row are audio. None: all.
        """
        config = self.config
        covered = samples[:, : config.samples]
        squares = functional.conv1d(covered[:, None], self.kernel, stride=config.hop).square()
        half = config.n_fft // 2
        energies = (self.bank @ (squares[:, :half] + squares[:, half:])).transpose(1, 2)
        logarithms = energies.clamp(min=config.floor).log()
        if lengths is not None:
            whole = torch.div(lengths - config.frame_length, config.hop, rounding_mode="floor") + 1
            positions = torch.arange(logarithms.shape[1], device=samples.device)
            logarithms = logarithms * (positions < whole[:, None]).to(samples.dtype)[:, :, None]
        missing = config.frames - logarithms.shape[1]
        padded: Tensor = functional.pad(logarithms, (0, 0, 0, missing))
        return (padded - config.mean) / (2 * config.std)


def _kernel(parameters: FbankParameters) -> DoubleArray:
    """Return the waves of all frequencies, `(n_fft, frame_length)`, real parts first.

    Pre-emphasis subtracts a share of the first sample from itself, as Kaldi does. The highest
    frequency is left out: no band reaches it.
    """
    length = parameters.frame_length
    centring = np.eye(length) - 1 / length
    emphasis = np.eye(length) - parameters.preemphasis * np.eye(length, k=-1)
    emphasis[0, 0] -= parameters.preemphasis
    window = scipy.signal.windows.hann(length, sym=True)
    waves = fourier_matrix(np.arange(parameters.n_fft // 2), np.arange(length), parameters.n_fft)
    kernel: DoubleArray = (waves.reshape(-1, length) * window) @ emphasis @ centring
    return kernel
