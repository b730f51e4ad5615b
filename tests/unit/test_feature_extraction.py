"""Features of any input are finite numbers, and the same from every thread."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandstand.frontends.librosa_features import FEATURE_NAMES, SAMPLE_RATE, extract_features

LARGEST = float(np.finfo(np.float32).max)


def noise(seed: int, length: int = SAMPLE_RATE) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.2, size=length).astype(np.float32)


@pytest.mark.parametrize("scale", [0.0, 1e-45, 1e-38, 1e-20, 1.0, 1e6, 1e15, LARGEST])
def test_finite_at_any_level(scale: float) -> None:
    samples = (np.sign(noise(0)) * scale).astype(np.float32)
    features = extract_features(samples)
    assert features.shape == (len(FEATURE_NAMES),) == (57,)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


@settings(max_examples=15, deadline=None)
@given(
    length=st.integers(SAMPLE_RATE, 2 * SAMPLE_RATE),
    start=st.integers(0, SAMPLE_RATE),
    level=st.floats(-LARGEST, LARGEST, width=32),
)
def test_finite_for_a_step_anywhere(length: int, start: int, level: float) -> None:
    samples = np.zeros(length, dtype=np.float32)
    samples[start:] = level
    assert np.isfinite(extract_features(samples)).all()


def test_the_input_is_left_alone() -> None:
    samples = noise(1)
    before = samples.copy()
    samples.flags.writeable = False
    extract_features(samples)
    np.testing.assert_array_equal(samples, before)


def test_threads_do_not_disturb_each_other() -> None:
    clips = [noise(seed, SAMPLE_RATE + 700 * seed) for seed in range(8)]
    alone = [extract_features(clip) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(extract_features, clips))
    np.testing.assert_array_equal(together, alone)


def test_librosa_is_not_needed() -> None:
    code = (
        "import sys; sys.modules['librosa'] = None\n"
        "import numpy as np\n"
        "from bandstand.frontends.librosa_features import extract_features\n"
        "print(len(extract_features(np.zeros(22050, np.float32))))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.split() == [str(len(FEATURE_NAMES))]
