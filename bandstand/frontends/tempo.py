"""Tempo: the beat period that best explains how onsets repeat.

Definitions are those of `librosa.beat.beat_track` 0.11 with its defaults, of which only the tempo
is computed: the autocorrelation of the onset strength (`onsets`) in windows of 8 s is averaged over
time (Grosche, Müller and Kurth, 2010), and weighted by how common a tempo is (Ellis, 2007).
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bandstand.frontends.stft import hann_window

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

_WINDOW_SECONDS = 8.0
_COMMON_BPM = 120.0
_FASTEST_BPM = 320.0


def estimate_tempo(onsets: FloatArray, *, frame_rate: float) -> float:
    """Return the tempo in beats per minute; 0 when there is no onset at all.

    Args:
        onsets: onset strength, `(frames,)`, non-negative.
        frame_rate: frames a second. The answer is `60 * frame_rate` divided by a whole number.
    """
    if not onsets.any():
        return 0.0
    lags = np.arange(1, int(_WINDOW_SECONDS * frame_rate))
    bpm = 60.0 * frame_rate / lags
    regularity = mean_autocorrelation(onsets, window=len(lags) + 1)[1:]
    # A Gaussian over octaves around 120 bpm, one octave wide.
    log_prior = -0.5 * (np.log2(bpm) - np.log2(_COMMON_BPM)) ** 2
    log_prior[bpm >= _FASTEST_BPM] = -np.inf
    return float(bpm[np.argmax(np.log1p(1e6 * regularity) + log_prior)])


def mean_autocorrelation(onsets: FloatArray, *, window: int) -> DoubleArray:
    """Return the autocorrelation in Hann windows around every frame, averaged, `(window,)`.

    Each window's is divided by its own largest value, the one at lag 0. As the transform back is
    linear, one is enough for the average of all windows.
    """
    padded = np.pad(onsets, window // 2, mode="linear_ramp", end_values=0)
    frames = sliding_window_view(padded, window)[: len(onsets)] * hann_window(window)
    energy = np.einsum("tn,tn->t", frames, frames)
    sounding = energy >= np.finfo(np.float64).tiny
    frames[sounding] /= np.sqrt(energy[sounding])[:, None]
    length = scipy.fft.next_fast_len(2 * window - 1, real=True)
    spectrum = scipy.fft.rfft(frames, n=length, axis=1)
    power = np.square(spectrum.real).mean(axis=0) + np.square(spectrum.imag).mean(axis=0)
    return np.asarray(scipy.fft.irfft(power, n=length)[:window])
