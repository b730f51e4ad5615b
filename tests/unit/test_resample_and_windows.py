"""Resampling as librosa does it, and windows that lose no sample, of one channel or two."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bandstand.audio.waveform import Waveform, resample
from bandstand.audio.windows import cut_windows
from bandstand.errors import AudioTooShortError, NoOnsetError
from bandstand.models.card import Card, HopWindow, OnsetWindow
from harness.cards import tiny_card


def waveform(
    samples: int | tuple[int, int], sample_rate: int = 1000, *, truncated: bool = False
) -> Waveform:
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


def test_each_channel_is_resampled_as_if_alone() -> None:
    stereo = waveform((2, 12_345), 44_100)
    resampled = resample(stereo, 16_000)
    assert resampled.samples.flags.c_contiguous
    assert (resampled.channels, resampled.samples.dtype) == (2, np.float32)
    for row, alone in zip(resampled.samples, stereo.samples, strict=True):
        expected = resample(Waveform(alone, 44_100, ""), 16_000)
        np.testing.assert_array_equal(row, expected.samples)
    assert resampled.duration_seconds == expected.duration_seconds


def test_each_channel_is_cut_as_if_alone() -> None:
    stereo = waveform((2, 1501))
    facts = {"sample_rate": 1000, "seconds": 1.0, "hop_seconds": 0.5}
    windows = cut_windows(stereo, HopWindow(**facts, channels=2))
    assert windows.batch.shape == (3, 2, 1000)
    for channel, alone in enumerate(stereo.samples):
        expected = cut_windows(Waveform(alone, 1000, ""), HopWindow(**facts))
        np.testing.assert_array_equal(windows.batch[:, channel], expected.batch)
        np.testing.assert_array_equal(windows.coverage, expected.coverage)
        np.testing.assert_array_equal(windows.starts_seconds, expected.starts_seconds)


@pytest.mark.parametrize(("samples", "channels"), [((2, 5000), 1), (5000, 2)])
def test_another_number_of_channels_is_the_callers_mistake(
    samples: int | tuple[int, int], channels: Literal[1, 2]
) -> None:
    window = HopWindow(sample_rate=1000, seconds=1.0, hop_seconds=1.0, channels=channels)
    with pytest.raises(ValueError, match=f"for a window of {channels}"):
        cut_windows(waveform(samples), window)


RATE = 22_050
STRUCK = (4096, 12_288, 20_480)
"""Samples at which the hits below begin, and where the nearest frame is."""


def hits(seconds: float = 1.0) -> np.ndarray:
    samples = np.zeros(round(seconds * RATE), np.float32)
    burst = np.random.default_rng(5).normal(size=1500) * np.exp(-np.arange(1500) / 200)
    for start in STRUCK:
        samples[start : start + 1500] = burst[: len(samples) - start]
    return samples


@pytest.mark.parametrize("before_seconds", [0.0, 0.02, 0.25])
def test_windows_at_onsets_hold_the_recording_around_them(before_seconds: float) -> None:
    window = OnsetWindow(
        kind="onsets", sample_rate=RATE, seconds=0.3, before_seconds=before_seconds
    )
    samples = hits()
    windows = cut_windows(Waveform(samples, RATE, ""), window)
    onsets = np.rint(windows.starts_seconds * RATE).astype(int)
    assert np.abs(onsets - STRUCK).max() <= 1024
    assert windows.batch.shape == (3, window.samples)
    padded = np.pad(samples, window.samples)
    for row, onset, (first, last) in zip(windows.batch, onsets, windows.spans, strict=True):
        start = onset - window.before_samples
        expected = padded[start + window.samples :][: window.samples]
        np.testing.assert_array_equal(row, expected)
        assert first == max(0, -start)
        assert last == min(window.samples, len(samples) - start)
    assert ((windows.coverage > 0) & (windows.coverage <= 1)).all()
    # 0.25 s are more than there is before the first hit, and 0.3 s more than after the last one.
    assert (windows.spans[0, 0] > 0) == (before_seconds == 0.25)
    assert windows.coverage[-1] < 1


def test_two_channels_have_the_onsets_of_their_mean() -> None:
    left = hits()
    right = np.zeros_like(left)
    facts = {"sample_rate": RATE, "seconds": 0.2, "before_seconds": 0.02}
    stereo = Waveform(np.stack([left, right]), RATE, "")
    windows = cut_windows(stereo, OnsetWindow(kind="onsets", **facts, channels=2))
    alone = cut_windows(Waveform(left, RATE, ""), OnsetWindow(kind="onsets", **facts))
    np.testing.assert_array_equal(windows.starts_seconds, alone.starts_seconds)
    np.testing.assert_array_equal(windows.batch[:, 0], alone.batch)
    assert not windows.batch[:, 1].any()


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_a_recording_without_onset_is_refused_by_that_name(level: float) -> None:
    constant = Waveform(np.full(RATE, level, np.float32), RATE, "")
    if level:  # its beginning is an onset of its own
        constant = Waveform(constant.samples[:256], RATE, "")
    with pytest.raises(NoOnsetError):
        cut_windows(constant, OnsetWindow(kind="onsets", sample_rate=RATE, seconds=0.2))


BY_HOP = {"sample_rate": 8000, "seconds": 1.0, "hop_seconds": 0.5}
AT_ONSETS = {"kind": "onsets", "sample_rate": 8000, "seconds": 1.0, "before_seconds": 0.25}


def card_with(window: dict[str, Any], shape: tuple[int, ...] = (8000,)) -> Card:
    inputs = [{"name": "samples", "shape": shape}]
    return Card.model_validate(tiny_card().model_dump() | {"window": window, "inputs": inputs})


def test_cards_that_name_no_kind_of_window_have_windows_by_hop() -> None:
    window = card_with(BY_HOP).window
    assert window == HopWindow(sample_rate=8000, seconds=1.0, hop_seconds=0.5)
    assert (window.channels, window.samples) == (1, 8000)


@pytest.mark.parametrize("window", [BY_HOP, AT_ONSETS, BY_HOP | {"channels": 2}])
def test_a_card_is_the_same_after_json(window: dict[str, Any]) -> None:
    card = card_with(window, (2, 8000) if "channels" in window else (8000,))
    again = Card.model_validate_json(card.model_dump_json())
    assert again == card
    assert again.input_specification.key == card.input_specification.key


@pytest.mark.parametrize(
    ("window", "shape", "message"),
    [
        (AT_ONSETS | {"hop_seconds": 0.5}, (8000,), "hop_seconds"),
        (BY_HOP | {"before_seconds": 0.5}, (8000,), "before_seconds"),
        (BY_HOP | {"kind": "beats"}, (8000,), "beats"),
        (AT_ONSETS | {"before_seconds": 1.0}, (8000,), "ends before its onset"),
        (BY_HOP | {"channels": 3}, (3, 8000), "channels"),
        (BY_HOP | {"channels": 2}, (8000,), r"must be \(2, 8000\)"),
        (BY_HOP | {"channels": 2}, (57,), r"must be \(2, 8000\)"),
        ("8000", (8000,), "window"),
    ],
)
def test_windows_that_make_no_sense_are_refused(
    window: dict[str, Any], shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        card_with(window, shape)
