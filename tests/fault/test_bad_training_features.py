"""Unusable training features are refused with a clear message; pickles are never loaded."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bandstand.errors import UnusableRequestError
from bandstand_cli.app import app
from bandstand_diagnosis.features import load_features
from bandstand_diagnosis.report import diagnose
from harness.cards import get_card
from harness.recordings import tone

GOOD = np.random.default_rng(3).normal(size=(96, 188))
PROOF_OF_HARM = "harmed"


class Harmful:
    """What a pickle may do when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(PROOF_OF_HARM),))


def saved(path: Path, array: Any) -> Path:
    np.save(path, array, allow_pickle=True)
    return path


BAD = {
    "one axis": (GOOD[0], "two axes"),
    "many clips": (np.stack([GOOD, GOOD]), "two axes"),
    "nan": (np.where(np.arange(188) == 3, np.nan, GOOD), "NaN"),
    "infinite": (np.where(np.arange(188) == 3, -np.inf, GOOD), "infinite"),
    "complex": (GOOD + 1j, "complex128"),
    "text": (GOOD.astype(str), "not real numbers"),
    "constant": (np.zeros_like(GOOD), "same value"),
    "too few": (GOOD[:3, :5], "too small"),
    "nothing": (np.empty((0, 128)), "too small"),
}


@pytest.mark.parametrize("name", BAD)
def test_unusable_array_is_refused_in_words(name: str, tmp_path: Path) -> None:
    array, words = BAD[name]
    with pytest.raises(UnusableRequestError, match=words):
        load_features(saved(tmp_path / "song.npy", array))


def test_pickled_objects_are_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "song.npy", np.array([Harmful()], dtype=object))
    with pytest.raises(UnusableRequestError, match="never loaded"):
        load_features(path)
    assert not Path(PROOF_OF_HARM).exists()


@pytest.mark.parametrize(
    "content", [b"", b"no array", b"\x93NUMPY\x01\x00v\x00{'descr'", b"PK\x03"]
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "song.npy"
    path.write_bytes(content)
    with pytest.raises(UnusableRequestError, match=r"not a \.npy file"):
        load_features(path)


def test_archive_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "song.npz", GOOD)
    with pytest.raises(UnusableRequestError, match="archive"):
        load_features(tmp_path / "song.npz")


def test_header_that_claims_more_than_the_file_has_costs_no_memory(tmp_path: Path) -> None:
    path = saved(tmp_path / "song.npy", GOOD)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(96, 188)", b"(10000000, 10000000)"[:20], 1))
    with pytest.raises(UnusableRequestError):
        load_features(path)


def command(tmp_path: Path, card: str, array: np.ndarray, *more: str) -> tuple[int, str, str]:
    (tmp_path / "song.wav").write_bytes(tone(3.0, 16_000))
    features, audio = saved(tmp_path / "song.npy", array), tmp_path / "song.wav"
    result = CliRunner().invoke(
        app, ["diagnose", card, "--features", str(features), "--audio", str(audio), *more]
    )
    return result.exit_code, result.stdout, result.stderr


def test_card_without_a_spectrogram_is_refused(tmp_path: Path) -> None:
    code, output, errors = command(tmp_path, "genre_wav2vec2", GOOD)
    assert (code, output) == (1, "")
    assert "front end standardize" in errors
    assert "[unusable_request]" in errors


def test_more_frames_than_the_audio_can_give_are_refused(tmp_path: Path) -> None:
    many = np.random.default_rng(4).normal(size=(20_000, 96))
    code, _, errors = command(tmp_path, "tags_msd", many)
    assert code == 1
    assert "are they of this recording" in errors


def test_noise_is_called_unrelated(tmp_path: Path) -> None:
    code, output, _ = command(tmp_path, "tags_msd", GOOD.T)
    assert code == 1
    assert "not features of this recording" in " ".join(output.split())
    assert "front_end:" not in output


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    real_import = builtins.__import__

    def without_matplotlib(name: str, *arguments: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(name)
        return real_import(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)


def test_picture_without_matplotlib_names_the_extra(no_matplotlib: None, tmp_path: Path) -> None:
    code, output, errors = command(tmp_path, "tags_msd", GOOD, "--plot", str(tmp_path / "a.png"))
    assert (code, output) == (1, "")
    assert "bandstand[diagnose]" in errors


def test_a_diagnosis_without_a_picture_needs_no_matplotlib(
    no_matplotlib: None, tmp_path: Path
) -> None:
    _, output, errors = command(tmp_path, "tags_msd", GOOD.T, "--json")
    assert errors == ""
    assert json.loads(output)["verdict"] == "unrelated"


def test_silent_audio_explains_nothing() -> None:
    from bandstand.audio.waveform import Waveform

    silence = Waveform(np.zeros(48_000, np.float32), 16_000, "")
    try:
        found = diagnose(GOOD.T, silence, get_card("tags_msd"))
    except UnusableRequestError:
        return
    assert found.verdict == "unrelated"
