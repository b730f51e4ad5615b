"""The feature front end gives librosa's values: on real recordings and on awkward signals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest

from bandstand.frontends.librosa_features import FEATURE_NAMES, SAMPLE_RATE, extract_features
from harness.librosa_calls import features_one_by_one

RELATIVE = 1e-3
WAVEFORM_MEANS = [FEATURE_NAMES.index(f"{part}_mean") for part in ("harmony", "perceptr")]
MEANS = np.array([i for i, name in enumerate(FEATURE_NAMES) if name.endswith("_mean")])


def seconds(duration: float) -> np.ndarray:
    return np.arange(round(duration * SAMPLE_RATE)) / SAMPLE_RATE


def noise(duration: float) -> np.ndarray:
    return np.random.default_rng(3).normal(scale=0.3, size=round(duration * SAMPLE_RATE))


def click_track(duration: float) -> np.ndarray:
    since_beat = seconds(duration) % 0.5  # 120 beats per minute
    return np.exp(-80 * since_beat) * np.sin(2 * np.pi * 1000 * since_beat)


SIGNALS: dict[str, Callable[[], np.ndarray]] = {
    "silence": lambda: np.zeros(5 * SAMPLE_RATE),
    "click track": lambda: click_track(10),
    "noise": lambda: noise(5),
    "full-scale noise": lambda: np.sign(noise(5)),
    "full-scale square": lambda: np.where((440 * seconds(5)) % 1 < 0.5, 1.0, -1.0),
    "square in step with the hop": lambda: np.where(np.arange(110_592) // 32 % 2, 1.0, -1.0),
    "constant": lambda: np.ones(2 * SAMPLE_RATE),
    "single impulse": lambda: np.eye(1, 3 * SAMPLE_RATE, SAMPLE_RATE)[0],
    "noise, then silence": lambda: np.concatenate([noise(2), np.zeros(2 * SAMPLE_RATE)]),
    "hardly audible": lambda: 1e-12 * noise(2),
    "one second": lambda: noise(1),
    "one sample short of a frame": lambda: noise(3)[: 512 * 100 - 1],
    "one sample into a frame": lambda: noise(3)[: 512 * 100 + 1],
}


def differing(samples: np.ndarray) -> list[str]:
    """Return the features that are not librosa's.

    Next to 1e-3 of the value, float32 rounding is allowed where a value is nothing but that: means
    of waveforms without offset, to 1e-8 of the signal's level, and the variance of a constant
    series, to the square of four units in the last place.
    """
    ours = extract_features(samples).astype(np.float64)
    theirs = features_one_by_one(samples)
    allowed = RELATIVE * np.abs(theirs)
    allowed[WAVEFORM_MEANS] += 1e-8 * np.sqrt(np.mean(np.square(samples)))
    allowed[MEANS + 1] += np.square(4 * np.finfo(np.float32).eps * theirs[MEANS])
    return [
        f"{name}: {ours[i]:.7g}, librosa {theirs[i]:.7g}"
        for i, name in enumerate(FEATURE_NAMES)
        if not abs(ours[i] - theirs[i]) <= allowed[i]
    ]


@pytest.fixture(scope="module")
def recordings(clips: list[Path]) -> dict[str, np.ndarray]:
    # librosa takes 1.5 s for a whole clip: two are, the others in part (all are in the benchmark).
    return {
        path.name: librosa.load(path, sr=SAMPLE_RATE, duration=30.0 if i < 2 else 10.0)[0]
        for i, path in enumerate(clips)
    }


def test_real_recordings(recordings: dict[str, np.ndarray]) -> None:
    for name, samples in recordings.items():
        assert differing(samples) == [], name


@pytest.mark.parametrize("duration", [2.0, 3.1234])
def test_short_and_odd_excerpts(recordings: dict[str, np.ndarray], duration: float) -> None:
    for samples in recordings.values():
        assert differing(samples[50_001 : 50_001 + round(duration * SAMPLE_RATE)]) == []


@pytest.mark.parametrize("name", SIGNALS)
def test_awkward_signals(name: str) -> None:
    assert differing(SIGNALS[name]().astype(np.float32)) == []
