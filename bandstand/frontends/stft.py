"""Short-time Fourier transform on the host, and its inverse, with a Hann window.

Conventions are those of `librosa.stft` 0.11 with its defaults: frame t is centred on sample
`t * hop`, the ends are padded with zeros, the window is the periodic Hann window as long as the
transform. Arrays are frames first, `(frames, bins)`: every frame is contiguous.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
ComplexArray = NDArray[np.complex64]

FRAMES_PER_BLOCK = 64
"""Frames handled at a time, so that what one step writes is still cached for the next."""


def frame_count(samples: int, hop: int) -> int:
    """Return the number of centred frames of a signal of that many samples."""
    return 1 + samples // hop


@lru_cache(maxsize=16)
def hann_window(length: int) -> NDArray[np.float64]:
    """Return the periodic Hann window, `(length,)`, read-only.

    The cosine runs from -pi to pi, as in `scipy.signal.windows.hann`, which makes the values equal
    bit for bit.
    """
    window = 0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, length + 1)[:-1])
    window.flags.writeable = False
    return window


def stft(samples: FloatArray, *, n_fft: int, hop: int) -> ComplexArray:
    """Return the spectrum of every frame, `(frame_count, n_fft // 2 + 1)`.

    The transform is computed in float64 and rounded once: that is what librosa does (its window is
    float64), costs little more than float32, and makes both results equal bit for bit, so that
    decisions taken on them (a peak, a histogram's fullest bin) are the same ones.

    Args:
        samples: `(n,)`.
        n_fft: even; length of window and transform in samples.
        hop: distance between frame centres in samples.
    """
    padded = np.pad(samples, n_fft // 2)
    frames = sliding_window_view(padded, n_fft)[::hop]
    window = hann_window(n_fft)
    spectrum = np.empty((len(frames), n_fft // 2 + 1), dtype=np.complex64)
    for start in range(0, len(frames), FRAMES_PER_BLOCK):
        block = slice(start, start + FRAMES_PER_BLOCK)
        spectrum[block] = scipy.fft.rfft(frames[block] * window, axis=1, overwrite_x=True)
    return spectrum


class OverlapAdd:
    """The inverse of `stft`, fed with consecutive blocks of frames.

    Frames are windowed again and summed; the sum is divided by that of the squared windows (least
    squares inverse, Griffin and Lim, 1984), as `librosa.istft` does.
    """

    def __init__(self, frames: int, *, n_fft: int, hop: int) -> None:
        if n_fft % (2 * hop):
            raise ValueError(f"hop {hop} must divide half the transform's length {n_fft}")
        self._frames = frames
        self._n_fft = n_fft
        self._hop = hop
        self._added = 0
        self._hops_per_frame = n_fft // hop
        self._window = hann_window(n_fft).astype(np.float32)
        self._hops = np.zeros((frames + self._hops_per_frame - 1, hop), dtype=np.float32)

    def add(self, spectrum: ComplexArray) -> None:
        """Add the next frames, `(any, n_fft // 2 + 1)`."""
        frames = scipy.fft.irfft(spectrum, n=self._n_fft, axis=1) * self._window
        parts = frames.reshape(len(frames), self._hops_per_frame, self._hop)
        for k in range(self._hops_per_frame):
            self._hops[self._added + k : self._added + k + len(frames)] += parts[:, k]
        self._added += len(frames)

    def samples(self, length: int) -> FloatArray:
        """Return the signal of all frames, `(length,)`; to be called once, after the last `add`."""
        squares = np.square(hann_window(self._n_fft)).reshape(self._hops_per_frame, self._hop)
        weight = np.zeros((len(self._hops), self._hop))
        for k in range(self._hops_per_frame):
            weight[k : k + self._frames] += squares[k]
        covered = weight > np.finfo(np.float32).tiny
        np.divide(self._hops, weight, out=self._hops, where=covered, casting="same_kind")
        start = self._n_fft // 2
        return self._hops.reshape(-1)[start : start + length]
