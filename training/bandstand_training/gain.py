"""The effect of a change of level on the features, to augment the training data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MEL_BANDS = 128
"""Mel bands under the table's MFCCs (librosa's default)."""


class GainEffect:
    """The effect of amplifying a recording on its features, exact except for clipping.

    A gain of g multiplies amplitudes (RMS, mean of a waveform) by g and their variances by g². It
    raises every mel band by 20 log10 g dB, so the first coefficient of the orthonormal DCT over
    `MEL_BANDS` bands rises by that times sqrt(MEL_BANDS); the 80 dB floor of the mel spectrum
    changes with its maximum. All other features of the table are ratios, or do not change.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Find the features that are affected by their names."""
        powers = {"rms": 1.0, "harmony": 1.0, "perceptr": 1.0}
        self._power = np.array(
            [
                powers.get(name.rpartition("_")[0], 0.0) * (2.0 if name.endswith("_var") else 1.0)
                for name in names
            ]
        )
        self._decibels = np.array(
            [np.sqrt(MEL_BANDS) if name == "mfcc1_mean" else 0.0 for name in names]
        )

    def __call__(
        self, features: NDArray[np.float64], gain_db: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the features `(…, features)` after a gain of `gain_db` `(…)` decibels."""
        gain = gain_db[..., np.newaxis]
        amplified: NDArray[np.float64] = (
            features * 10.0 ** (gain / 20 * self._power) + gain * self._decibels
        )
        return amplified
