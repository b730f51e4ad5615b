"""Pooling the features of windows gives those of the whole recording."""

from __future__ import annotations

import numpy as np
import pytest

from bandstand.frontends.librosa_features import (
    FEATURE_NAMES,
    HOP,
    SAMPLE_RATE,
    extract_features,
    pool_features,
)

TEMPO = FEATURE_NAMES.index("tempo")
MEAN, VAR = FEATURE_NAMES.index("rms_mean"), FEATURE_NAMES.index("rms_var")


def windows(count: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, len(FEATURE_NAMES))).astype(np.float32)


def test_one_window_is_the_recording() -> None:
    features = windows(1)
    np.testing.assert_allclose(pool_features(features, np.array([7.0])), features[0], rtol=1e-6)


def test_mean_and_variance_are_those_of_all_values() -> None:
    values = np.random.default_rng(5).normal(size=1000)
    parts = [values[:100], values[100:700], values[700:]]
    features = np.zeros((3, len(FEATURE_NAMES)), dtype=np.float32)
    features[:, MEAN] = [part.mean() for part in parts]
    features[:, VAR] = [part.var() for part in parts]
    pooled = pool_features(features, np.array([len(part) for part in parts]))
    assert pooled[MEAN] == pytest.approx(values.mean(), rel=1e-5)
    assert pooled[VAR] == pytest.approx(values.var(), rel=1e-5)


def test_every_pair_is_pooled_the_same_way() -> None:
    features, weights = windows(4), np.array([1.0, 2.0, 3.0, 4.0])
    pooled = pool_features(features, weights)
    for i, name in enumerate(FEATURE_NAMES):
        if name.endswith("_mean"):
            mean = np.average(features[:, i], weights=weights)
            spread = np.average((features[:, i] - mean) ** 2, weights=weights)
            assert pooled[i] == pytest.approx(mean, rel=1e-5), name
            assert pooled[i + 1] == pytest.approx(
                np.average(features[:, i + 1], weights=weights) + spread, rel=1e-5
            ), name


@pytest.mark.parametrize(
    ("tempos", "weights", "expected"),
    [
        ([120.0, 60.0, 90.0], [1, 1, 1], 90.0),
        ([120.0, 60.0, 90.0], [5, 1, 1], 120.0),
        ([120.0, 60.0], [1, 1], 60.0),
        ([0.0, 120.0], [0, 3], 120.0),
    ],
)
def test_tempo_is_one_that_was_heard(
    tempos: list[float], weights: list[float], expected: float
) -> None:
    features = windows(len(tempos))
    features[:, TEMPO] = tempos
    assert pool_features(features, np.array(weights))[TEMPO] == expected


def test_scale_of_the_weights_does_not_matter() -> None:
    features, weights = windows(3), np.array([1.0, 2.0, 0.5])
    np.testing.assert_allclose(
        pool_features(features, weights), pool_features(features, 22_050 * weights), rtol=1e-6
    )


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.0, 0.0, 0.0], [1.0, -1.0, 1.0], []])
def test_weights_that_make_no_sense_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        pool_features(windows(3), np.array(weights))


def test_halves_make_the_whole() -> None:
    samples = np.random.default_rng(0).normal(scale=0.1, size=128 * HOP).astype(np.float32)
    samples *= np.linspace(0.2, 1.0, len(samples), dtype=np.float32)
    halves = np.stack([extract_features(half) for half in np.split(samples, 2)])
    whole, pooled = extract_features(samples), pool_features(halves, np.array([1, 1]))
    # The frames at the cut differ; the loudness and its spread do not hang on two of 128 frames.
    assert len(samples) > 2 * SAMPLE_RATE
    for name in ("rms_mean", "spectral_centroid_mean", "harmony_var", "perceptr_var"):
        i = FEATURE_NAMES.index(name)
        assert pooled[i] == pytest.approx(whole[i], rel=0.05), name
    assert pooled[VAR] > halves[:, VAR].max()
