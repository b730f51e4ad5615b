"""Small parts of the diagnosis: fits, limits, timings, the lines of a card."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import yaml

from bandstand.audio.waveform import Waveform
from bandstand.frontends.host import log_mel, mfcc
from bandstand.frontends.parameters import LogMelParameters, MfccParameters
from bandstand.models.card import HopWindow
from bandstand_diagnosis.compare import likeness, on_grid
from bandstand_diagnosis.fit import Limits, Target, is_standardised_per_band
from bandstand_diagnosis.report import Change, card_lines
from bandstand_diagnosis.spectra import Setting, Spectra, logarithms_of
from bandstand_diagnosis.timing import Clip, Timing, find_timings

RANDOM = np.random.default_rng(11)
MODEL = RANDOM.normal(size=(60, 20))


def target(features: np.ndarray, *, cepstral: bool = False, per_band: bool = False) -> Target:
    return Target(features, Limits.of(features), cepstral=cepstral, per_band=per_band)


def recording(seconds: float = 3.0, rate: int = 16_000) -> Waveform:
    noise = RANDOM.normal(size=round(seconds * rate)) * 0.1
    swell = 1 + np.sin(np.arange(len(noise)) / rate * 7)
    return Waveform((noise * swell).astype(np.float32), rate, "")


def test_slope_and_offset_are_fitted() -> None:
    fit = target(4.0 * MODEL - 30.0).fit(MODEL)
    assert (fit.slope, fit.offset) == pytest.approx((4.0, -30.0))
    assert fit.residual < 1e-12


def test_cells_at_a_limit_do_not_bend_the_fit() -> None:
    features = np.maximum(4.0 * MODEL - 30.0, -31.0)
    fit = target(features).fit(MODEL)
    assert (fit.slope, fit.offset) == pytest.approx((4.0, -30.0))
    assert fit.residual < 1e-12


def test_cepstra_have_an_offset_in_the_first_coefficient_alone() -> None:
    features = 2.0 * MODEL
    features[:, 0] += 7.0
    fit = target(features, cepstral=True).fit(MODEL)
    assert (fit.slope, fit.offset, fit.first_offset) == pytest.approx((2.0, 0.0, 7.0), abs=1e-9)


def test_standardised_bands_fit_whatever_their_scales() -> None:
    features = (MODEL - MODEL.mean(axis=0)) / MODEL.std(axis=0)
    assert is_standardised_per_band(features)
    assert not is_standardised_per_band(features + 1.0)
    scales = RANDOM.uniform(1, 9, size=20)
    assert target(features, per_band=True).fit(MODEL * scales).residual < 1e-12


def test_the_opposite_explains_nothing() -> None:
    assert target(-MODEL).fit(MODEL).residual == 1.0


def test_limits_are_values_that_many_share() -> None:
    values = RANDOM.normal(size=(400, 20))
    assert Limits.of(values) == Limits(-np.inf, np.inf)
    assert Limits.of(np.clip(values, -1.0, 1.5)) == Limits(-1.0, 1.5)


@pytest.mark.parametrize("padding", ["constant", "reflect", "none"])
@pytest.mark.parametrize("spectrum", ["power", "magnitude"])
def test_spectra_are_those_of_the_front_end(padding: str, spectrum: str) -> None:
    own = LogMelParameters(
        sample_rate=16_000,
        n_fft=512,
        hop=200,
        n_mels=40,
        padding=padding,  # type: ignore[arg-type]
        spectrum=spectrum,  # type: ignore[arg-type]
        level="natural_log",
        floor=1e-6,
    )
    waveform = recording()
    served = log_mel(waveform.samples[None], own)[0]
    frames = np.array([0, 1, 50, len(served) - 1])
    setting = Setting(Timing(16_000, 200, len(waveform.samples), True, True), own, 512)
    model = Spectra(Clip(waveform), frames).model(setting)
    assert setting.frames == len(served)
    assert model == pytest.approx(served[frames], abs=1e-4)


def test_cepstra_are_those_of_the_front_end() -> None:
    own = MfccParameters(sample_rate=16_000, n_fft=512, hop=200, n_mels=40, n_mfcc=13)
    waveform = recording()
    served = mfcc(waveform.samples[None], own)[0]
    setting = Setting(Timing(16_000, 200, len(waveform.samples), True, True), own, 512)
    model = Spectra(Clip(waveform), np.arange(len(served))).model(setting)
    assert model * (10 / np.log(10)) == pytest.approx(served, abs=1e-3)


def test_added_floor_lifts_every_value() -> None:
    bands = np.array([0.0, 1.0], np.float32)
    assert logarithms_of(bands, 1.0, added=True) == pytest.approx([0.0, np.log(2)])
    assert logarithms_of(bands, 1.0, added=False) == pytest.approx([0.0, 0.0])


@pytest.mark.parametrize("frames_first", [True, False])
def test_shape_tells_hop_and_which_axis_is_time(frames_first: bool) -> None:
    waveform = recording(10.0)
    made = log_mel(waveform.samples[None], LogMelParameters(sample_rate=16_000, hop=256))[0]
    features = np.asarray(made if frames_first else made.T, np.float64)
    window = HopWindow(sample_rate=16_000, seconds=29.0, hop_seconds=29.0)
    likely, _ = find_timings(features, Clip(waveform), window, hop=512, n_fft=512, cepstral=False)
    expected = Timing(16_000, 256, 160_000, frames_first, exact=True)
    assert expected in likely
    assert {timing.frames_first for timing in likely} == {frames_first}


def test_clip_is_cut_or_filled_up_with_zeros() -> None:
    waveform = recording(1.0)
    clip = Clip(waveform)
    assert len(clip.samples(16_000, 100)) == 100
    assert clip.samples(16_000, 20_000)[16_000:].tolist() == [0.0] * 4000
    assert clip.length(22_050) == len(clip.samples(22_050))


def test_likeness_of_other_shapes_has_no_residual() -> None:
    same, other = likeness(MODEL, MODEL), likeness(MODEL, on_grid(MODEL, (120, 40)))
    assert same.residual == 0.0
    assert same.frame_correlation == pytest.approx(1.0)
    assert other.residual is None
    assert other.frame_correlation > 0.9


def test_card_lines_are_yaml_with_what_they_replace() -> None:
    changes = (
        Change("window", "sample_rate", 16_000, 22_050),
        Change("front_end", "floor", 1e-10, 1e-5),
        Change("front_end", "area_normalised", False, True),
        Change("front_end", "dynamic_range_db", 80.0, None),
    )
    lines = card_lines(changes, "log_mel")
    assert "sample_rate: 22050  # the card: 16000" in lines
    content = yaml.safe_load(lines)
    assert content["window"] == {"sample_rate": 22_050}
    own = content["front_end"]["parameters"]
    assert own == {"floor": 1e-5, "area_normalised": True, "dynamic_range_db": 1000.0}
    assert card_lines((), "log_mel") == ""


def test_diagnosis_loads_nothing_heavy() -> None:
    code = (
        "import sys, bandstand_cli.diagnose\n"
        "heavy = {'torch', 'librosa', 'matplotlib', 'onnxruntime', 'bentoml', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
