"""The spectrum of frames as matrix products: the form that every runtime runs well.

The ONNX operators STFT and DFT have no CUDA kernel in ONNX Runtime, OpenVINO refuses STFT, and on
a CPU both are slower than products. All constants are computed in float64 and rounded once.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bandstand.frontends.stft import hann_window

DoubleArray = NDArray[np.float64]
Indices = NDArray[np.int64]

TWO_STAGES_FROM = 512
"""Samples in a frame from which two stages are faster than one large product: half its time at
512, a third at 2048 (ONNX Runtime and OpenVINO, CPU)."""
_SHORT = 32
"""Length of the first stage's transforms."""


def as_float32(array: NDArray[np.floating]) -> Tensor:
    """Return a contiguous float32 copy."""
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def fourier_matrix(outputs: Indices, inputs: Indices, n: int) -> DoubleArray:
    """Return exp(-2 pi i outputs inputs / n), `(2, outputs, inputs)`: real, then imaginary part."""
    angle = 2 * np.pi * (np.outer(outputs, inputs) % n) / n
    return np.stack([np.cos(angle), -np.sin(angle)])


def overlapping_frames(samples: Tensor, n_fft: int, hop: int) -> Tensor:
    """Cut `(n, samples)` into frames, `(n, frames, n_fft)`: shifted blocks, without gathering.

    Args:
        samples: at least one frame long; what fills no whole hop is left out.
        n_fft: samples in a frame.
        hop: samples from frame to frame; divides `n_fft`.
    """
    blocks, parts = samples.shape[1] // hop, n_fft // hop
    frames = blocks - parts + 1
    cut = samples[:, : blocks * hop].reshape(-1, blocks, hop)
    return torch.cat([cut[:, part : part + frames] for part in range(parts)], dim=2)


class Spectrum(nn.Module):
    """Samples `(n, samples)` to the spectrum of every frame, `(n, frames, rows, 2, columns)`.

    Frames are weighted with the periodic Hann window. Axis 3 holds real and imaginary part. The
    frequencies lie in rows and columns in an order of their own, and some lie there twice: a
    filter bank is brought into that order once, instead of every spectrum into the natural one.

    Attributes:
        rows: of each frequency, `(n_fft // 2 + 1,)`.
        columns: of each frequency, `(n_fft // 2 + 1,)`.
        layout: number of rows and of columns.
    """

    rows: Indices
    columns: Indices
    layout: tuple[int, int]

    def arrange(self, bank: NDArray[np.floating]) -> DoubleArray:
        """Bring a filter bank `(bands, n_fft // 2 + 1)` into this order: `(*layout, bands)`."""
        arranged = np.zeros((*self.layout, len(bank)))
        arranged[self.rows, self.columns] = bank.T
        return arranged


class DirectSpectrum(Spectrum):
    """A convolution whose kernels are windowed waves: for short frames, and for any hop."""

    kernel: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.columns = np.arange(n_fft // 2 + 1)
        self.rows = np.zeros_like(self.columns)
        self.layout = (1, len(self.columns))
        kernel = fourier_matrix(self.columns, np.arange(n_fft), n_fft) * hann_window(n_fft)
        kernel = kernel.reshape(-1, 1, n_fft)
        self.register_buffer("kernel", as_float32(kernel), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the spectrum."""
        waves = functional.conv1d(samples[:, None], self.kernel, stride=self.hop)
        return waves.transpose(1, 2).reshape(-1, waves.shape[2], 1, 2, self.layout[1])


class TwoStageSpectrum(Spectrum):
    """The transform of Cooley and Tukey (1965) in two stages, each a matrix product.

    With n = b m + j and k = p + a q, where a b = n_fft: short transforms over m, a twist by
    exp(-2 pi i p j / n_fft), transforms over j. The signal is real, so the first stage's upper
    half mirrors its lower one and is left out; a frequency k in it is found as n_fft - k.
    """

    window: Tensor
    first: Tensor
    twist: Tensor
    second: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        if n_fft % _SHORT or n_fft % hop:
            raise ValueError(f"{_SHORT} and the hop {hop} must divide the frame length {n_fft}")
        self.n_fft, self.hop = n_fft, hop
        a, b, kept = _SHORT, n_fft // _SHORT, _SHORT // 2 + 1
        self.layout = (kept, b)
        k = np.arange(n_fft // 2 + 1)
        k = np.where(k % a < kept, k, n_fft - k)
        self.rows, self.columns = k % a, k // a
        p, j = np.arange(kept), np.arange(b)
        cosine, minus_sine = fourier_matrix(j, j, b)
        constants = {
            "window": hann_window(n_fft),
            "first": fourier_matrix(p, np.arange(a), a).reshape(2 * kept, a),
            "twist": fourier_matrix(p, j, n_fft),
            # A complex product as a real one: (real, imaginary) to (real, imaginary).
            "second": np.block([[cosine, minus_sine], [-minus_sine, cosine]]),
        }
        for name, constant in constants.items():
            self.register_buffer(name, as_float32(constant), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the spectrum."""
        kept, b = self.layout
        frames = overlapping_frames(samples, self.n_fft, self.hop) * self.window
        count = frames.shape[1]
        short = self.first @ frames.reshape(-1, count, _SHORT, b)
        real, imaginary = short[:, :, :kept], short[:, :, kept:]
        cosine, minus_sine = self.twist[0], self.twist[1]
        twisted_real = real * cosine - imaginary * minus_sine
        twisted_imaginary = real * minus_sine + imaginary * cosine
        spectrum = torch.cat([twisted_real, twisted_imaginary], dim=3) @ self.second
        return spectrum.reshape(-1, count, kept, 2, b)


def make_spectrum(n_fft: int, hop: int) -> Spectrum:
    """Return the form that is fastest for this frame length and hop."""
    if n_fft >= TWO_STAGES_FROM and n_fft % _SHORT == 0 and n_fft % hop == 0:
        return TwoStageSpectrum(n_fft, hop)
    return DirectSpectrum(n_fft, hop)
