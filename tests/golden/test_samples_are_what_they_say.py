"""The samples decode, and have the documented length, sound and score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.audio.waveform import Waveform
from bandstand.settings import get_settings
from samples.notation import DRUMS, DrumPart, Score
from samples.scores import BAND_GROOVE, FIDDLE_REEL, STRING_MINUET

RECORDINGS = {
    "band_groove.ogg": (BAND_GROOVE, 48_000),
    "fiddle_reel.mp3": (FIDDLE_REEL, 44_100),
    "string_minuet.flac": (STRING_MINUET, 22_050),
}
MOST_BYTES = 400_000


def decoded(path: Path) -> Waveform:
    return decode(path.read_bytes(), DecodeLimits.from_settings(get_settings()))


@pytest.fixture(params=RECORDINGS)
def recording(request: pytest.FixtureRequest, samples_dir: Path) -> tuple[Path, Score, int]:
    score, rate = RECORDINGS[request.param]
    return samples_dir / request.param, score, rate


def test_recording_has_its_documented_length_rate_and_level(recording):
    path, score, rate = recording
    waveform = decoded(path)
    assert waveform.sample_rate == rate
    assert not waveform.truncated
    assert waveform.duration_seconds == pytest.approx(score.duration_seconds, abs=0.06)
    table = (path.parent / "README.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in table if line.startswith(f"| `{path.name}`"))
    assert f"{score.duration_seconds:.1f} s" in row
    assert f"{rate / 1000:g} kHz" in row
    assert score.title in row
    peak = 20 * np.log10(np.abs(waveform.samples).max())
    assert -6.0 < peak < 0.0
    rms = 20 * np.log10(np.sqrt(np.mean(waveform.samples**2)))
    assert -24.0 < rms < -14.0


def test_recording_starts_and_ends_without_a_long_silence(recording):
    path, _, _ = recording
    waveform = decoded(path)
    loud = np.flatnonzero(np.abs(waveform.samples) > 0.02) / waveform.sample_rate
    assert loud[0] < 0.1
    assert waveform.duration_seconds - loud[-1] < 0.8


def test_recordings_are_small(samples_dir):
    files = [path for path in samples_dir.iterdir() if path.suffix in {".ogg", ".mp3", ".flac"}]
    assert {path.name for path in files} == set(RECORDINGS)
    assert all(path.stat().st_size <= MOST_BYTES for path in files)


def test_groove_is_heard_at_the_tempo_it_was_written_in(samples_dir):
    librosa = pytest.importorskip("librosa")
    waveform = decoded(samples_dir / "band_groove.ogg")
    samples = librosa.resample(waveform.samples, orig_sr=waveform.sample_rate, target_sr=22_050)
    tempo = float(np.ravel(librosa.beat.beat_track(y=samples, sr=22_050)[0])[0])
    octave = 2.0 ** np.round(np.log2(tempo / BAND_GROOVE.tempo))
    assert tempo / octave == pytest.approx(BAND_GROOVE.tempo, rel=0.03)


def test_drummer_keeps_the_beat_plays_ghost_notes_and_fills_at_the_end_of_phrases():
    (drums,) = [part for part in BAND_GROOVE.parts if isinstance(part, DrumPart)]
    per_bar, per_beat = BAND_GROOVE.cells_per_bar, BAND_GROOVE.cells_per_beat
    notes = drums.notes(per_bar)

    def cells(bar: int, *names: str) -> set[int]:
        keys = {DRUMS[name] for name in names}
        return {
            int(note.start) % per_bar
            for note in notes
            if note.start // per_bar == bar and note.pitch in keys
        }

    for bar in (0, 1, 2, 4):
        assert {0, 2 * per_beat} <= cells(bar, "kick")
        assert {per_beat, 3 * per_beat} <= cells(bar, "snare")
        eighths = set(range(0, per_bar, per_beat // 2))
        assert eighths <= cells(bar, "hat", "open_hat", "crash")
    assert any(note.velocity < 50 for note in notes if note.pitch == DRUMS["snare"])
    assert all(cells(bar, "high_tom", "floor_tom") for bar in (3, 5))


def test_midi_files_are_the_scores(recording):
    pytest.importorskip("mido", reason="only rendering needs it")
    from samples.render import midi_bytes

    path, score, _ = recording
    assert path.with_suffix(".mid").read_bytes() == midi_bytes(score)
