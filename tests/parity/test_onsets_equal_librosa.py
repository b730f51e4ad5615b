"""Onsets are those that librosa finds with its defaults: on real recordings and awkward signals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.audio.waveform import resample
from bandstand.audio.windows import cut_windows
from bandstand.frontends.host import log_mel
from bandstand.frontends.onsets import HOP, N_FFT, detect_onsets, onset_strength, pick_onsets
from bandstand.frontends.parameters import LogMelParameters
from bandstand.pipelines.prepare import prepare
from bandstand.settings import Settings
from harness.cards import get_card

librosa = pytest.importorskip("librosa")

LIMITS = DecodeLimits.from_settings(Settings())
DRUMS = get_card("annoteator_drum_cnn")
SECONDS = 20


@pytest.fixture(scope="module")
def recordings(clips: list[Path], data_dir: Path) -> list[Path]:
    return [*clips, *sorted((data_dir / "drums").glob("*.flac"))]


def by_librosa(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    return librosa.onset.onset_detect(y=samples, sr=sample_rate, units="samples")


def strength_of(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    parameters = LogMelParameters(sample_rate=sample_rate, dynamic_range_db=80.0)
    mel_db = log_mel(samples[None], parameters)[0]
    return onset_strength(mel_db, n_fft=N_FFT, hop=HOP, over_bands="mean")


@pytest.mark.parametrize("sample_rate", [22_050, 44_100])
def test_real_recordings_have_the_same_onsets(recordings: list[Path], sample_rate: int) -> None:
    assert recordings
    for path in recordings:
        waveform = resample(decode(path.read_bytes(), LIMITS), sample_rate)
        samples = waveform.samples[: SECONDS * sample_rate]
        expected = by_librosa(samples, sample_rate)
        assert len(expected) > 5, path.name
        found = detect_onsets(samples, sample_rate=sample_rate)
        np.testing.assert_array_equal(found, expected, err_msg=path.name)


def test_the_strength_is_librosas(recordings: list[Path]) -> None:
    for path in recordings:
        waveform = decode(path.read_bytes(), LIMITS)
        samples = waveform.samples[: 10 * waveform.sample_rate]
        expected = librosa.onset.onset_strength(y=samples, sr=waveform.sample_rate)
        np.testing.assert_allclose(
            strength_of(samples, waveform.sample_rate), expected, rtol=0, atol=1e-4
        )


def clicks(spacing: float) -> np.ndarray:
    since = (np.arange(3 * 44_100) / 44_100) % spacing
    return np.exp(-80 * since) * np.sin(2 * np.pi * 1000 * since)


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(clicks(0.5), id="clicks"),
        pytest.param(clicks(0.04), id="clicks as near as onsets may be"),
        pytest.param(np.random.default_rng(1).normal(scale=0.1, size=88_200), id="noise"),
        pytest.param(np.eye(1, 88_200, 44_100)[0], id="impulse"),
        pytest.param(np.concatenate([clicks(0.5), np.zeros(44_100)]), id="then silence"),
        pytest.param(1e-4 * clicks(0.3), id="hardly audible"),
    ],
)
def test_awkward_signals_have_the_same_onsets(samples: np.ndarray) -> None:
    samples = samples.astype(np.float32)
    found = detect_onsets(samples, sample_rate=44_100)
    np.testing.assert_array_equal(found, by_librosa(samples, 44_100))


@pytest.mark.parametrize("samples", [1, 100, 512, 5000])
def test_silence_of_any_length_has_none(samples: int) -> None:
    assert not len(detect_onsets(np.zeros(samples, np.float32), sample_rate=44_100))


@pytest.mark.parametrize("seed", range(20))
def test_peaks_of_any_strength_are_librosas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Steps of a quarter: many frames are equally strong.
    strength = np.round(4 * rng.random(rng.integers(1, 300))).astype(np.float32) / 4
    for rate in (8_000, 22_050, 44_100, 192_000):
        expected = librosa.onset.onset_detect(onset_envelope=strength, sr=rate)
        np.testing.assert_array_equal(pick_onsets(strength, frame_rate=rate / HOP), expected)


def test_a_drum_recording_is_cut_at_its_onsets(data_dir: Path) -> None:
    for path in sorted((data_dir / "drums").glob("*_Drum.flac")):
        audio = path.read_bytes()
        samples = decode(audio, LIMITS).samples
        prepared = prepare(audio, (DRUMS,), LIMITS).of(DRUMS)
        rows = prepared.inputs["samples"]
        expected = by_librosa(samples, 44_100)
        assert rows.shape == (len(expected), 8820)
        np.testing.assert_allclose(prepared.starts_seconds, expected / 44_100, atol=1e-6)
        for row, onset in zip(rows, expected, strict=True):
            cut = samples[onset - 882 : onset - 882 + 8820]
            np.testing.assert_array_equal(row[: len(cut)], cut)
            assert not row[len(cut) :].any()


def test_most_annotated_kicks_and_snares_are_in_a_window(data_dir: Path) -> None:
    near = 0
    annotated = []
    for path in sorted((data_dir / "drums").glob("*_Drum.flac")):
        rows = path.with_name(path.name.replace("_Drum.flac", "_class.txt")).read_text().split()
        struck = [float(t) for t, kind in zip(rows[::2], rows[1::2], strict=True) if kind in "KDSD"]
        windows = cut_windows(decode(path.read_bytes(), LIMITS), DRUMS.window)
        distances = np.abs(np.subtract.outer(struck, windows.starts_seconds)).min(axis=1)
        near += int((distances < 0.05).sum())
        annotated += struck
    assert near / len(annotated) > 0.8
