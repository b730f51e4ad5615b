"""Chroma: the share of the twelve pitch classes in every frame, in the recording's own tuning.

Definitions are those of `librosa.feature.chroma_stft` 0.11 with its defaults.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

_SEMITONES = 12
_A440_OCTAVES_UP = 16.0
"""Octaves are counted from A0 = 440 / 16 Hz."""
_PEAK_LOW_HZ, _PEAK_HIGH_HZ = 150.0, 4000.0
_PEAK_SHARE = 0.1
"""A peak must exceed this share of its frame's largest power."""
_HALF_STEP = 0.5
"""Semitones; what is further from one pitch is nearer to the next."""
_TUNING_STEPS = 100
"""Resolution of the tuning estimate: a hundredth of a semitone."""
_CENTRE_OCTAVE, _OCTAVE_WIDTH = 5.0, 2.0
"""Centre and width (standard deviation) of the filter bank's weighting."""


def chroma(power: FloatArray, *, sample_rate: int) -> FloatArray:
    """Return `(frames, 12)`, C first, the largest of each frame 1; a silent frame is all 0.

    Args:
        power: power spectrum, `(frames, n_fft // 2 + 1)`.
        sample_rate: Hz.
    """
    n_fft = 2 * (power.shape[1] - 1)
    tuning = estimate_tuning(power, sample_rate=sample_rate)
    bank = chroma_filter_bank(sample_rate=sample_rate, n_fft=n_fft, tuning=tuning)
    # einsum, since a product this small would still wake all threads of the BLAS
    raw = np.einsum("tf,cf->tc", power, bank)
    largest = raw.max(axis=1, keepdims=True)
    largest[largest < np.finfo(np.float32).tiny] = 1.0
    return np.asarray(raw / largest)


def estimate_tuning(power: FloatArray, *, sample_rate: int) -> float:
    """Return the deviation from A = 440 Hz in semitones, in [-0.5, 0.5), steps of 0.01.

    The commonest deviation of the spectrum's louder peaks, each placed between bins by a parabola
    (J. O. Smith, Sinusoidal peak interpolation). Without a peak (silence) it is 0.
    """
    pitch, height = _spectral_peaks(power, sample_rate=sample_rate)
    if not len(pitch):
        return 0.0
    pitch = pitch[height >= np.median(height)]
    residual = np.mod(_SEMITONES * np.log2(pitch / np.float32(440.0 / _A440_OCTAVES_UP)), 1.0)
    residual[residual >= _HALF_STEP] -= 1.0
    counts, edges = np.histogram(residual, np.linspace(-_HALF_STEP, _HALF_STEP, _TUNING_STEPS + 1))
    return float(edges[np.argmax(counts)])


def _spectral_peaks(power: FloatArray, *, sample_rate: int) -> tuple[FloatArray, FloatArray]:
    """Return frequency in Hz and height of all peaks of all frames, `(peaks,)` each."""
    n_fft = 2 * (power.shape[1] - 1)
    frequencies = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    low, high = np.searchsorted(frequencies, (_PEAK_LOW_HZ, _PEAK_HIGH_HZ))
    threshold = np.float32(_PEAK_SHARE) * power.max(axis=1, keepdims=True)
    centre = power[:, low:high]
    below, above = power[:, low - 1 : high - 1], power[:, low + 1 : high + 1]
    frame, offset = np.nonzero((centre > threshold) & (centre > below) & (centre >= above))
    index = offset + low
    # float64 in between and float32 at the end, as librosa: the histogram of deviations is
    # decided by single peaks at the edges of its bins.
    left, mid, right = (power[frame, index + k].astype(np.float64) for k in (-1, 0, 1))
    curvature, slope = left + right - 2.0 * mid, (right - left) / 2.0
    inside = np.abs(slope) < np.abs(curvature)
    shift = np.zeros_like(slope)
    np.divide(-slope, curvature, out=shift, where=inside)
    shift = shift.astype(np.float32)
    pitch = ((index + shift) * float(sample_rate) / n_fft).astype(np.float32)
    height = mid.astype(np.float32) + np.float32(0.5) * slope.astype(np.float32) * shift
    return pitch, height


@lru_cache(maxsize=2 * _TUNING_STEPS)
def chroma_filter_bank(*, sample_rate: int, n_fft: int, tuning: float) -> FloatArray:
    """Return the weights of every bin for every pitch class, read-only.

    Gaussian bumps around each semitone (Ellis, Chroma feature analysis and synthesis, 2007), each
    bin normalised over the classes and weighted by its nearness to the fifth octave; equal to
    `librosa.filters.chroma` 0.11.

    Returns:
        `(12, n_fft // 2 + 1)`, C first.
    """
    frequencies = np.linspace(0, sample_rate, n_fft, endpoint=False)[1:]
    a440 = 440.0 * 2.0 ** (tuning / _SEMITONES)
    semitone = _SEMITONES * np.log2(frequencies / (a440 / _A440_OCTAVES_UP))
    # 0 Hz has no pitch: it is placed an octave and a half below the first bin, broad and off-key.
    semitone = np.concatenate(([semitone[0] - 1.5 * _SEMITONES], semitone))
    width = np.concatenate((np.maximum(np.diff(semitone), 1.0), [1.0]))
    distance = semitone - np.arange(_SEMITONES)[:, None]
    half = _SEMITONES / 2
    distance = np.remainder(distance + half + 10 * _SEMITONES, _SEMITONES) - half
    weights = np.exp(-0.5 * (2 * distance / width) ** 2)
    weights /= np.sqrt(np.sum(weights**2, axis=0))
    octave = semitone / _SEMITONES
    weights *= np.exp(-0.5 * ((octave - _CENTRE_OCTAVE) / _OCTAVE_WIDTH) ** 2)
    # Semitones are counted from A; C is three further.
    bank: FloatArray = np.roll(weights, -3, axis=0)[:, : n_fft // 2 + 1].astype(np.float32)
    bank.flags.writeable = False
    return bank
