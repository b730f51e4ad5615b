"""Onsets: how strongly something begins at each moment, and the moments at which it does.

Definitions are those of `librosa.onset.onset_strength` and `librosa.onset.onset_detect` 0.11 with
their defaults: the strength is the rise of a mel spectrogram in decibels (Böck and Widmer, Maximum
filter vibrato suppression for onset detection, DAFx 2013), and onsets are its peaks (Böck, Krebs
and Schedl, Evaluating the online capabilities of onset detection methods, ISMIR 2012).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bandstand.frontends.host import log_mel
from bandstand.frontends.parameters import LogMelParameters

FloatArray = NDArray[np.float32]
Indices = NDArray[np.int64]

N_FFT = 2048
"""Samples in a frame."""
HOP = 512
"""Samples from frame to frame: onsets are found to within this."""

_DYNAMIC_RANGE_DB = 80.0
# Peaks: librosa's defaults, which a search over annotated recordings found.
_MAX_BEFORE_SECONDS = 0.03
_MEAN_SECONDS = 0.1
_WAIT_SECONDS = 0.03
_ABOVE_MEAN = 0.07
"""Of the range from the weakest to the strongest moment of the recording."""


def detect_onsets(samples: FloatArray, *, sample_rate: int) -> Indices:
    """Return where something begins, in samples from the start, `(n,)`, ascending.

    What counts as an onset depends on the whole recording: strengths are compared with its
    strongest. Onsets are multiples of `HOP`, at least 30 ms apart.

    Args:
        samples: mono, `(n,)`, finite.
        sample_rate: Hz.
    """
    parameters = LogMelParameters(
        sample_rate=sample_rate, n_fft=N_FFT, hop=HOP, dynamic_range_db=_DYNAMIC_RANGE_DB
    )
    mel_db = log_mel(samples[None], parameters)[0]
    strength = onset_strength(mel_db, n_fft=N_FFT, hop=HOP, over_bands="mean")
    return HOP * pick_onsets(strength, frame_rate=sample_rate / HOP)


def onset_strength(
    mel_db: FloatArray, *, n_fft: int, hop: int, over_bands: Literal["mean", "median"]
) -> FloatArray:
    """Return the rise of the mel bands from frame to frame, in dB, `(frames,)`, non-negative.

    Args:
        mel_db: `(frames, bands)`, in dB.
        n_fft: length of a frame in samples; half of it is how far ahead a frame sees an onset, by
            which the result is delayed.
        hop: distance of the frames in samples.
        over_bands: what is taken of the bands' rises: librosa's onset detection takes the mean, its
            beat tracker the median.
    """
    frames, bands = mel_db.shape
    rise = np.diff(mel_db, axis=0)
    if over_bands == "mean":
        strength = np.maximum(0.0, rise).mean(axis=1)
    else:
        rise.sort(axis=1)
        strength = np.maximum(0.0, rise[:, [(bands - 1) // 2, bands // 2]]).mean(axis=1)
    return np.pad(strength, (1 + n_fft // (2 * hop), 0))[:frames]


def pick_onsets(strength: FloatArray, *, frame_rate: float) -> Indices:
    """Return the frames that are onsets, `(n,)`, ascending; none where the strength is constant.

    A frame is one if it is the strongest of the last 30 ms, exceeds the mean of 100 ms on either
    side by 0.07 of the recording's range, and the onset before it is 30 ms away.

    Args:
        strength: onset strength, `(frames,)`, finite.
        frame_rate: frames a second.
    """
    levels = strength - strength.min()
    if not levels.any():
        return np.empty(0, np.int64)
    levels /= levels.max() + np.finfo(levels.dtype).tiny
    before = int(_MAX_BEFORE_SECONDS * frame_rate)
    around = int(_MEAN_SECONDS * frame_rate)
    strongest = sliding_window_view(np.pad(levels, (before, 0)), before + 1).max(axis=1)
    is_peak = (levels == strongest) & (levels >= _local_mean(levels, around) + _ABOVE_MEAN)
    wait = int(_WAIT_SECONDS * frame_rate)
    onsets: list[int] = []
    for frame in np.flatnonzero(is_peak).tolist():
        if not onsets or frame - onsets[-1] > wait:
            onsets.append(frame)
    return np.array(onsets, np.int64)


def _local_mean(levels: FloatArray, around: int) -> NDArray[np.float64]:
    """Return the mean of each frame and of `around` on either side, as far as there are some."""
    sums = np.concatenate([[0.0], np.cumsum(levels, dtype=np.float64)])
    frames = np.arange(len(levels))
    first = np.maximum(frames - around, 0)
    last = np.minimum(frames + around + 1, len(levels))
    return np.asarray((sums[last] - sums[first]) / (last - first))
