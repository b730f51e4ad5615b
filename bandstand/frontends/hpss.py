"""Harmonic-percussive separation by median filtering (Fitzgerald, DAFx 2010).

Energy that is continuous in time is harmonic; energy that is spread in frequency is percussive.
Definitions are those of `librosa.effects.hpss` 0.11 with its defaults: windows of 31 frames and 31
bins, soft masks of power 2 without margin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandstand.frontends.running_median import running_median
from bandstand.frontends.stft import ComplexArray, OverlapAdd

FloatArray = NDArray[np.float32]

_FRAMES_PER_BLOCK = 256
"""Frames separated and transformed back at a time: enough of them to fill the median's vectors."""


def harmonic_waveform(
    spectrum: ComplexArray, magnitude: FloatArray, *, hop: int, length: int
) -> FloatArray:
    """Return the harmonic part of a signal, `(length,)`.

    Both masks add up to 1 and the transform is linear, so the percussive part is the signal minus
    this.

    Args:
        spectrum: the signal's `stft`, `(frames, n_fft // 2 + 1)`.
        magnitude: its absolute values.
        hop: the hop it was made with.
        length: the signal's, in samples.
    """
    frames, bins = spectrum.shape
    harmonic = running_median(magnitude)
    signal = OverlapAdd(frames, n_fft=2 * (bins - 1), hop=hop)
    for start in range(0, frames, _FRAMES_PER_BLOCK):
        block = slice(start, start + _FRAMES_PER_BLOCK)
        percussive = running_median(np.ascontiguousarray(magnitude[block].T)).T
        signal.add(spectrum[block] * _soft_mask(harmonic[block], percussive))
    return signal.samples(length)


def _soft_mask(wanted: FloatArray, other: FloatArray) -> FloatArray:
    """Return wanted² / (wanted² + other²); one half where both are 0."""
    tiny = np.finfo(np.float32).tiny
    with np.errstate(over="ignore"):  # an infinite ratio is a mask of 0
        mask = np.maximum(other, tiny) / np.maximum(wanted, tiny)
        mask *= mask
        mask += 1.0
        return np.asarray(np.reciprocal(mask, out=mask))
