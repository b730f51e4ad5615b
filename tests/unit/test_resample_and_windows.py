"""Resampling as librosa does it, and windows that lose no sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandstand.audio.waveform import Waveform, resample
from bandstand.audio.windows import cut_windows
from bandstand.errors import AudioTooShortError
from bandstand.models.card import HopWindow


def waveform(samples: int, sample_rate: int = 1000, *, truncated: bool = False) -> Waveform:
    noise = np.random.default_rng(3).normal(scale=0.1, size=samples).astype(np.float32)
    return Waveform(noise, sample_rate, sha256="0" * 64, truncated=truncated)


@pytest.mark.parametrize(
    ("source", "target"), [(44_100, 22_050), (44_100, 16_000), (48_000, 22_050), (8_000, 44_100)]
)
@pytest.mark.parametrize("samples", [1, 7, 1000, 44_100, 123_457])
def test_resampling_is_librosas(source: int, target: int, samples: int) -> None:
    librosa = pytest.importorskip("librosa")
    original = waveform(samples, source)
    expected = librosa.resample(
        original.samples, orig_sr=source, target_sr=target, res_type="soxr_hq"
    )
    resampled = resample(original, target).samples
    assert resampled.shape == expected.shape
    assert resampled.dtype == np.float32
    assert resampled.flags.c_contiguous
    np.testing.assert_allclose(resampled, expected, rtol=0, atol=1e-6)


def test_resampling_keeps_what_the_waveform_is_about() -> None:
    original = waveform(4410, 44_100, truncated=True)
    resampled = resample(original, 22_050)
    assert resampled.sample_rate == 22_050
    assert (resampled.sha256, resampled.truncated) == (original.sha256, True)


def test_the_same_rate_is_the_same_waveform() -> None:
    original = waveform(100)
    assert resample(original, original.sample_rate) is original


@pytest.mark.parametrize(
    ("samples", "coverage"),
    [
        (400, [0.4]),
        (1000, [1.0]),
        (1001, [1.0, 0.501]),
        (1500, [1.0, 1.0]),
        (1501, [1.0, 1.0, 0.501]),
        (2000, [1.0, 1.0, 1.0]),
    ],
)
def test_only_a_tail_that_nothing_covers_gets_a_window(samples: int, coverage: list[float]) -> None:
    window = HopWindow(sample_rate=1000, seconds=1.0, hop_seconds=0.5)
    windows = cut_windows(waveform(samples), window)
    assert windows.batch.shape == (len(coverage), 1000)
    np.testing.assert_allclose(windows.coverage, coverage, rtol=1e-6)


@settings(max_examples=200, deadline=None)
@given(samples=st.integers(1, 500), length=st.integers(1, 200), hop=st.integers(1, 300))
def test_windows_hold_the_recording_and_then_zeros(samples: int, length: int, hop: int) -> None:
    window = HopWindow(sample_rate=1000, seconds=length / 1000, hop_seconds=hop / 1000)
    original = waveform(samples)
    windows = cut_windows(original, window)
    assert windows.batch.dtype == windows.coverage.dtype == np.float32
    seen = np.zeros(samples, bool)
    for index, (row, share) in enumerate(zip(windows.batch, windows.coverage, strict=True)):
        start, real = index * hop, round(float(share) * length)
        assert real > 0
        np.testing.assert_array_equal(row[:real], original.samples[start : start + real])
        assert not row[real:].any()
        seen[start : start + real] = True
    within_reach = np.arange(samples) % hop < length
    assert (seen == within_reach).all()
    assert (windows.coverage[:-1] == 1).all() or hop > length


def test_too_short_says_how_long_it_must_be() -> None:
    window = HopWindow(sample_rate=1000, seconds=1.0, hop_seconds=1.0, minimum_seconds=0.25)
    assert len(cut_windows(waveform(250), window).batch) == 1
    with pytest.raises(AudioTooShortError, match=r"at least 0\.25 s"):
        cut_windows(waveform(249), window)


def test_another_rate_is_the_callers_mistake() -> None:
    window = HopWindow(sample_rate=22_050, seconds=1.0, hop_seconds=1.0)
    with pytest.raises(ValueError, match="1000 Hz"):
        cut_windows(waveform(5000), window)
