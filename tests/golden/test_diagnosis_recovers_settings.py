"""The diagnosis finds the settings with which librosa computed features."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
import yaml
from numpy.typing import NDArray
from typer.testing import CliRunner

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.audio.waveform import Waveform
from bandstand.frontends import host
from bandstand.frontends.parameters import LogMelParameters, MfccParameters
from bandstand.models.card import Card
from bandstand.settings import get_settings
from bandstand_cli.app import app
from bandstand_diagnosis.report import Diagnosis, card_lines, diagnose, read_front_end
from harness.cards import get_card

Array = NDArray[np.floating[Any]]
SECONDS = 10
QUIET, RHYTHMIC = "Sugar_Plum", "Vibe_Ace"


@pytest.fixture(scope="module")
def recordings(clips: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The first seconds of two real clips."""
    directory, found = tmp_path_factory.mktemp("recordings"), {}
    for name in (QUIET, RHYTHMIC):
        (source,) = (clip for clip in clips if name in clip.name)
        samples, rate = soundfile.read(source, dtype="float32")
        found[name] = directory / f"{name}.wav"
        soundfile.write(found[name], samples[: SECONDS * rate], rate, subtype="FLOAT")
    return found


def waveform(path: Path) -> Waveform:
    return decode(path.read_bytes(), DecodeLimits.from_settings(get_settings()))


def mel(path: Path, rate: int, **settings: Any) -> Array:
    samples, _ = librosa.load(path, sr=rate)
    return librosa.feature.melspectrogram(y=samples, sr=rate, **settings)


def minmax(values: Array) -> Array:
    return (values - values.min()) / (values.max() - values.min())


def magnitude_htk(path: Path) -> Array:
    return librosa.amplitude_to_db(
        mel(path, 16_000, n_fft=1024, hop_length=256, n_mels=64, htk=True, power=1.0), top_db=None
    )


def loudest_is_zero(path: Path) -> Array:
    return librosa.power_to_db(mel(path, 22_050), ref=np.max)


def natural_log(path: Path) -> Array:
    bands = mel(path, 16_000, n_fft=512, hop_length=160, n_mels=80, fmin=20, fmax=7600, norm=None)
    return np.log(np.maximum(bands, 1e-5)).T


def minmax_not_centred(path: Path) -> Array:
    bands = mel(path, 22_050, hop_length=441, n_mels=96, htk=True, norm=None, center=False)
    return minmax(librosa.power_to_db(bands, top_db=None))


def reflected(path: Path) -> Array:
    bands = mel(path, 16_000, n_fft=512, hop_length=256, n_mels=96, htk=True, pad_mode="reflect")
    return librosa.power_to_db(bands, top_db=None)


def linear_bands(path: Path) -> Array:
    return mel(path, 22_050, n_fft=1024, hop_length=512, fmax=8000)


def standardised(path: Path) -> Array:
    values = librosa.power_to_db(mel(path, 22_050, n_fft=1024, hop_length=256, n_mels=64))
    return (values - values.mean()) / values.std()


def standardised_bands(path: Path) -> Array:
    values = librosa.power_to_db(mel(path, 22_050, n_mels=64, fmax=8000), top_db=None)
    return (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)


def divided(path: Path) -> Array:
    return librosa.power_to_db(mel(path, 22_050, n_mels=96), top_db=None)[None] / 255


def short_window_added_floor(path: Path) -> Array:
    bands = mel(path, 16_000, n_fft=512, win_length=400, hop_length=160, n_mels=80)
    return np.log(bands + 1e-6)


def mfcc_20(path: Path) -> Array:
    samples, rate = librosa.load(path, sr=22_050)
    return librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=20)


def mfcc_other_bands(path: Path) -> Array:
    samples, rate = librosa.load(path, sr=16_000)
    settings = {"n_fft": 1024, "hop_length": 256, "n_mels": 40, "htk": True}
    return librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=13, **settings).T


FULL_BAND = {"low_hz": 0.0, "high_hz": 11_025.0}
# How the features are made, of which clip, for which card; then what must be found.
CASES: list[tuple[Callable[[Path], Array], str, str, dict[str, Any], str]] = [
    (
        magnitude_htk,
        QUIET,
        "tags_msd",
        {
            **{"sample_rate": 16_000, "n_fft": 1024, "hop": 256, "n_mels": 64},
            **{"low_hz": 0.0, "high_hz": 8000.0, "mel_scale": "htk", "area_normalised": True},
            **{"spectrum": "magnitude", "padding": "constant", "level": "decibels"},
            **{"floor": 1e-5, "reference": "one", "dynamic_range_db": None},
        },
        "",
    ),
    (
        loudest_is_zero,
        RHYTHMIC,
        "tags_msd",
        {
            **{"sample_rate": 22_050, "n_fft": 2048, "hop": 512, "n_mels": 128, **FULL_BAND},
            **{"mel_scale": "slaney", "area_normalised": True, "spectrum": "power"},
            **{"padding": "constant", "level": "decibels", "reference": "max"},
            "dynamic_range_db": 80.0,
        },
        "",
    ),
    (
        natural_log,
        QUIET,
        "tags_msd",
        {
            **{"sample_rate": 16_000, "n_fft": 512, "hop": 160, "n_mels": 80, "low_hz": 20.0},
            **{"high_hz": 7600.0, "mel_scale": "slaney", "area_normalised": False},
            **{"spectrum": "power", "padding": "constant", "level": "natural_log", "floor": 1e-5},
        },
        "",
    ),
    (
        minmax_not_centred,
        QUIET,
        "tags_msd",
        {
            **{"sample_rate": 22_050, "n_fft": 2048, "hop": 441, "n_mels": 96, **FULL_BAND},
            **{"mel_scale": "htk", "area_normalised": False, "padding": "none"},
            "level": "decibels",
        },
        "brought to 0 and 1",
    ),
    (
        reflected,
        RHYTHMIC,
        "tags_jamendo",
        {"n_fft": 512, "hop": 256, "padding": "reflect", "area_normalised": True},
        "",
    ),
    (
        linear_bands,
        RHYTHMIC,
        "tags_msd",
        {
            **{"sample_rate": 22_050, "n_fft": 1024, "hop": 512, "high_hz": 8000.0},
            **{"mel_scale": "slaney", "area_normalised": True, "spectrum": "power"},
            **{"padding": "constant", "level": "linear"},
        },
        "",
    ),
    (
        standardised,
        RHYTHMIC,
        "tags_msd",
        {
            **{"sample_rate": 22_050, "n_fft": 1024, "hop": 256, "n_mels": 64, **FULL_BAND},
            "dynamic_range_db": 80.0,
        },
        "the clip standardised",
    ),
    (
        standardised_bands,
        QUIET,
        "tags_msd",
        {"sample_rate": 22_050, "n_fft": 2048, "hop": 512, "high_hz": 8000.0},
        "every band standardised",
    ),
    (
        divided,
        QUIET,
        "tags_msd",
        {"sample_rate": 22_050, "n_fft": 2048, "n_mels": 96, "reference": "one", **FULL_BAND},
        "divided by 255",
    ),
    (
        mfcc_20,
        RHYTHMIC,
        "genre_mfcc_cnn",
        {"n_mfcc": 20, "n_fft": 2048, "hop": 512, "n_mels": 128, "dynamic_range_db": 80.0},
        "",
    ),
    (
        mfcc_other_bands,
        QUIET,
        "genre_mfcc_cnn",
        {
            **{"sample_rate": 16_000, "n_fft": 1024, "hop": 256, "n_mfcc": 13, "n_mels": 40},
            **{"mel_scale": "htk", "high_hz": 8000.0, "dynamic_range_db": 80.0},
        },
        "",
    ),
]


@pytest.mark.parametrize(
    ("make", "recording", "card", "expected", "outside"),
    CASES,
    ids=[case[0].__name__ for case in CASES],
)
def test_settings_are_recovered_and_the_lines_make_the_features(
    *,
    make: Callable[[Path], Array],
    recording: str,
    card: str,
    expected: dict[str, Any],
    outside: str,
    recordings: dict[str, Path],
) -> None:
    path, features = recordings[recording], np.asarray(make(recordings[recording]), np.float64)
    found = diagnose(features.squeeze(), waveform(path), get_card(card))
    assert found.verdict == "change_explains"
    assert found.candidates[0].fit.residual < 1e-4
    changed = parameters_with(found, get_card(card))
    assert {name: getattr(changed, name) for name in expected} == expected
    assert outside in "; ".join(found.outside_the_card)
    assert bool(outside) == bool(found.outside_the_card)
    assert found.proof is not None
    assert found.proof < 1e-3
    if not outside:
        assert served(changed, path) == pytest.approx(
            features if found.frames_first else features.T,
            abs=1e-3 * float(features.std()),
        )


def parameters_with(found: Diagnosis, card: Card) -> LogMelParameters | MfccParameters:
    """The front end of the card with the printed lines in it: what a reader would get."""
    lines = yaml.safe_load(card_lines(found.changes, card.front_end.kind)) or {}
    window = card.window.model_copy(update=lines.get("window", {}))
    own = {**card.front_end.parameters, **lines.get("front_end", {}).get("parameters", {})}
    front_end = card.front_end.model_copy(update={"parameters": own})
    changed = read_front_end(card.model_copy(update={"window": window, "front_end": front_end}))
    return replace(changed, high_hz=changed.high_hz or changed.sample_rate / 2)


def served(parameters: LogMelParameters | MfccParameters, path: Path) -> Array:
    samples, _ = librosa.load(path, sr=parameters.sample_rate)
    if isinstance(parameters, MfccParameters):
        return host.mfcc(samples[None], parameters)[0]
    return host.log_mel(samples[None], parameters)[0]


def test_what_no_card_can_say_is_said(recordings: dict[str, Path]) -> None:
    features = short_window_added_floor(recordings[QUIET]).astype(np.float64)
    found = diagnose(features, waveform(recordings[QUIET]), get_card("tags_msd"))
    best = found.candidates[0].setting
    assert (best.parameters.n_fft, best.window_length, best.added) == (512, 400, True)
    assert best.parameters.floor == 1e-6
    window, floor = found.outside_the_card
    assert "window of 400 samples" in window
    assert "1e-06 added" in floor
    assert found.proof is None


def test_right_features_need_no_change(recordings: dict[str, Path]) -> None:
    bands = mel(
        recordings[QUIET],
        16_000,
        **{"n_fft": 512, "hop_length": 256, "n_mels": 96, "htk": True, "norm": None},
        pad_mode="reflect",
    )
    features = librosa.power_to_db(bands, top_db=None).astype(np.float64)
    found = diagnose(features, waveform(recordings[QUIET]), get_card("tags_msd"))
    assert found.verdict == "card_explains"
    assert found.changes == ()


def test_features_of_the_start_are_recognised(recordings: dict[str, Path]) -> None:
    features = loudest_is_zero(recordings[RHYTHMIC])[:, :300].astype(np.float64)
    found = diagnose(features, waveform(recordings[RHYTHMIC]), get_card("tags_msd"))
    best = found.candidates[0].setting.parameters
    assert (best.sample_rate, best.n_fft, best.hop) == (22_050, 2048, 512)
    assert found.candidates[0].fit.residual < 1e-4
    assert found.verdict == "change_explains"


def test_other_recording_is_called_unrelated(recordings: dict[str, Path]) -> None:
    features = loudest_is_zero(recordings[QUIET]).astype(np.float64)
    found = diagnose(features, waveform(recordings[RHYTHMIC]), get_card("tags_msd"))
    assert found.verdict == "unrelated"
    assert found.changes == ()


def test_command_tells_the_lines_and_draws(
    recordings: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "song.npy", mfcc_20(recordings[QUIET]))
    monkeypatch.chdir(tmp_path)
    common = ["diagnose", "genre_mfcc_cnn", "--features", "song.npy"]
    common += ["--audio", str(recordings[QUIET])]
    page = CliRunner().invoke(
        app, [*common, "--plot", "song.png"], env={"COLUMNS": "120"}, catch_exceptions=False
    )
    assert page.exit_code == 1
    assert "n_mfcc: 20  # the card: 13" in page.stdout
    assert Path("song.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads(CliRunner().invoke(app, [*common, "--json"]).stdout)
    assert content["verdict"] == "change_explains"
    assert content["changes"] == [
        {"section": "front_end", "name": "n_mfcc", "card": 13, "features": 20}
    ]
