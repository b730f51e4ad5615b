"""Mel filter banks and decibels on the host."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bandstand.frontends.stft import FRAMES_PER_BLOCK

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

MelScale = Literal["slaney", "htk"]
Axis = Literal["hz", "mel"]

# Slaney's Auditory Toolbox (Interval Research Technical Report 1998-010): linear up to 1 kHz, then
# 27 steps to each factor of 6.4.
_SLANEY_HZ_PER_MEL = 200.0 / 3.0
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_BREAK_MEL = _SLANEY_BREAK_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP = np.log(6.4) / 27.0


def hz_to_mel(frequency: float | NDArray[np.floating], scale: MelScale = "slaney") -> DoubleArray:
    """Convert Hz to mel, any shape: Slaney's scale, or the HTK book's 2595 log10(1 + f / 700)."""
    hz = np.asarray(frequency, dtype=np.float64)
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hz / 700.0))
    log_ratio = np.log(np.maximum(hz, _SLANEY_BREAK_HZ) / _SLANEY_BREAK_HZ)
    logarithmic = _SLANEY_BREAK_MEL + log_ratio / _SLANEY_LOG_STEP
    return np.where(hz >= _SLANEY_BREAK_HZ, logarithmic, hz / _SLANEY_HZ_PER_MEL)


def mel_to_hz(mels: DoubleArray, scale: MelScale = "slaney") -> DoubleArray:
    """Convert mel to Hz, the inverse of `hz_to_mel`; any shape."""
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mels / 2595.0) - 1.0))
    logarithmic = _SLANEY_BREAK_HZ * np.exp(_SLANEY_LOG_STEP * (mels - _SLANEY_BREAK_MEL))
    return np.where(mels >= _SLANEY_BREAK_MEL, logarithmic, _SLANEY_HZ_PER_MEL * mels)


@lru_cache(maxsize=16)
def mel_filter_bank(
    *,
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    low_hz: float = 0.0,
    high_hz: float | None = None,
    scale: MelScale = "slaney",
    straight_over: Axis = "hz",
    area_normalised: bool = True,
) -> FloatArray:
    """Return triangular filters for a power or magnitude spectrum, read-only.

    Their centres are equally spaced in mel. The definition is that of `librosa.filters.mel` 0.11
    (`htk=scale == "htk"`, `norm="slaney"` or None); with `straight_over="mel"` and without
    area, that of Kaldi's `MelBanks`.

    Args:
        sample_rate: Hz.
        n_fft: length of the transform in samples.
        n_mels: number of filters.
        low_hz: lower edge of the first filter.
        high_hz: upper edge of the last filter; None: half the sample rate.
        scale: which mel scale.
        straight_over: the axis over which the sides of the triangles are straight lines.
        area_normalised: every filter has area 1 (in Hz) instead of peak 1.

    Returns:
        `(n_mels, n_fft // 2 + 1)`.
    """
    frequencies = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    high_hz = sample_rate / 2 if high_hz is None else high_hz
    mels = np.linspace(hz_to_mel(low_hz, scale), hz_to_mel(high_hz, scale), n_mels + 2)
    edges = mel_to_hz(mels, scale)
    if straight_over == "hz":
        corners, positions = edges, frequencies
    else:
        corners, positions = mels, hz_to_mel(frequencies, scale)
    distance = corners[:, None] - positions
    width = np.diff(corners)[:, None]
    rising = -distance[:-2] / width[:-1]
    falling = distance[2:] / width[1:]
    weights = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    if area_normalised:
        weights *= (2.0 / (edges[2:] - edges[:-2])).astype(np.float32)[:, None]
    weights.flags.writeable = False
    return weights


def apply_filter_bank(power: FloatArray, bank: FloatArray | csr_array) -> FloatArray:
    """Return the energy in every filter, `power @ bank.T`, `(frames, n_mels)`.

    A mel bank is 98 % zeros; the sparse product is fast on one thread, where a dense one would wake
    all threads of the BLAS in each of several worker processes.

    Args:
        power: `(frames, bins)`.
        bank: `(n_mels, bins)`, mostly zeros; pass it sparse if it is used several times.
    """
    sparse = csr_array(bank)
    energy = np.empty((len(power), sparse.shape[0]), dtype=np.float32)
    for start in range(0, len(power), FRAMES_PER_BLOCK):
        block = slice(start, start + FRAMES_PER_BLOCK)
        energy[block] = (sparse @ power[block].T).T
    return energy


def power_to_db(
    power: NDArray[Any],
    *,
    reference: float = 1.0,
    floor: float = 1e-10,
    dynamic_range: float | None = 80.0,
) -> NDArray[Any]:
    """Return 10 log10(power / reference) in dB, in the shape and dtype of `power`.

    Args:
        power: non-negative, any shape.
        reference: the power of 0 dB.
        floor: smaller powers (and a smaller reference) count as this much.
        dynamic_range: values further below the maximum are raised to this many dB below it; None
            leaves them.
    """
    decibels = 10.0 * np.log10(np.maximum(floor, power))
    decibels -= 10.0 * np.log10(max(floor, reference))
    if dynamic_range is not None:
        np.maximum(decibels, decibels.max() - dynamic_range, out=decibels)
    return np.asarray(decibels)
