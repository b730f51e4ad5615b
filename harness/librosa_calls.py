"""The reference of the feature front end: the plain librosa calls, one by one."""

from __future__ import annotations

import warnings

import librosa
import numpy as np


def features_one_by_one(samples: np.ndarray) -> np.ndarray:
    """Return the 57 features in the table's order, float64; every call makes its own spectrum."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Trying to estimate tuning from empty frequency set")
        series = [
            librosa.feature.chroma_stft(y=samples),
            librosa.feature.rms(y=samples),
            librosa.feature.spectral_centroid(y=samples),
            librosa.feature.spectral_bandwidth(y=samples),
            librosa.feature.spectral_rolloff(y=samples),
            librosa.feature.zero_crossing_rate(samples),
            *librosa.effects.hpss(samples),
        ]
    tempo = librosa.beat.beat_track(y=samples)[0]
    mfcc = librosa.feature.mfcc(y=samples, n_mfcc=20)
    return np.array(
        [
            *(f(part) for part in series for f in (np.mean, np.var)),
            np.squeeze(tempo),
            *(f(row) for row in mfcc for f in (np.mean, np.var)),
        ],
        dtype=np.float64,
    )
