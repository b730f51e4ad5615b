"""Filter banks, spectra and decibels are librosa's, value by value."""

from __future__ import annotations

from typing import Any, Literal

import librosa
import numpy as np
import pytest

from bandstand.frontends.chroma import chroma_filter_bank
from bandstand.frontends.mel import apply_filter_bank, mel_filter_bank, power_to_db
from bandstand.frontends.stft import stft


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("area_normalised", [True, False])
@pytest.mark.parametrize(
    "layout",
    [
        {"sample_rate": 22_050, "n_fft": 2048, "n_mels": 128, "low_hz": 0.0, "high_hz": None},
        {"sample_rate": 16_000, "n_fft": 512, "n_mels": 96, "low_hz": 0.0, "high_hz": 8000.0},
        {"sample_rate": 44_100, "n_fft": 2048, "n_mels": 64, "low_hz": 50.0, "high_hz": 9000.0},
    ],
)
def test_mel_filter_bank(
    layout: dict[str, Any], area_normalised: bool, scale: Literal["slaney", "htk"]
) -> None:
    ours = mel_filter_bank(**layout, scale=scale, area_normalised=area_normalised)
    theirs = librosa.filters.mel(
        sr=layout["sample_rate"],
        n_fft=layout["n_fft"],
        n_mels=layout["n_mels"],
        fmin=layout["low_hz"],
        fmax=layout["high_hz"],
        htk=scale == "htk",
        norm="slaney" if area_normalised else None,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("tuning", [-0.5, -0.13, 0.0, 0.25, 0.49])
def test_chroma_filter_bank(tuning: float) -> None:
    ours = chroma_filter_bank(sample_rate=22_050, n_fft=2048, tuning=tuning)
    theirs = librosa.filters.chroma(sr=22_050, n_fft=2048, tuning=tuning)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("length", [22_050, 51_200, 51_201, 2048])
def test_spectrum_bit_for_bit(length: int) -> None:
    samples = np.random.default_rng(length).normal(size=length).astype(np.float32)
    np.testing.assert_array_equal(stft(samples, n_fft=2048, hop=512), librosa.stft(samples).T)


@pytest.mark.parametrize("dynamic_range", [80.0, None])
@pytest.mark.parametrize("reference", [1.0, 40.0])
def test_decibels(reference: float, dynamic_range: float | None) -> None:
    power = np.random.default_rng(1).lognormal(sigma=12.0, size=(50, 20)).astype(np.float32)
    power[0] = 0.0
    ours = power_to_db(power, reference=reference, dynamic_range=dynamic_range)
    theirs = librosa.power_to_db(power, ref=reference, top_db=dynamic_range)
    assert ours.dtype == power.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_sparse_product_is_the_dense_one() -> None:
    power = np.random.default_rng(2).random((130, 1025)).astype(np.float32)
    bank = mel_filter_bank(sample_rate=22_050, n_fft=2048, n_mels=128)
    np.testing.assert_allclose(apply_filter_bank(power, bank), power @ bank.T, rtol=1e-5)
