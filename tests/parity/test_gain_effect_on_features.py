"""The augmentation by level does to features what amplifying does to the sound."""

from __future__ import annotations

import numpy as np
import pytest

from bandstand.frontends.librosa_features import FEATURE_NAMES, SAMPLE_RATE, extract_features
from bandstand_training.gain import GainEffect


@pytest.mark.parametrize("gain_db", [-12.0, 6.0])
def test_features_after_gain_equal_features_of_amplified_sound(gain_db: float) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * 220 * time) * (1 + np.sin(2 * np.pi * 2 * time))
    samples = (0.1 * tone + 0.02 * rng.normal(size=len(time)) + 0.01).astype(np.float32)
    amplified = (samples * 10 ** (gain_db / 20)).astype(np.float32)
    before = extract_features(samples).astype(np.float64)
    found = GainEffect(FEATURE_NAMES)(before, np.array(gain_db))
    wanted = extract_features(amplified)
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=1e-5)
    changed = {n for n, a, b in zip(FEATURE_NAMES, before, found, strict=True) if a != b}
    assert {"rms_mean", "harmony_var", "perceptr_mean", "mfcc1_mean"} < changed
    assert len(changed) == 7
