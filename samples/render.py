"""Make the recordings of this folder from their scores: `python -m samples.render`.

A score becomes a MIDI file (mido), the MIDI file becomes sound (the `fluidsynth` program and a
General MIDI soundfont), and the sound is normalised and encoded (PyAV). The same score gives the
same MIDI bytes, and with the same FluidSynth, soundfont and FFmpeg the same audio bytes.
"""

from __future__ import annotations

import argparse
import io
import logging
import random
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import av
import mido
import numpy as np
from numpy.typing import NDArray

from samples.notation import DrumPart, Note, Score
from samples.scores import BAND_GROOVE, FIDDLE_REEL, STRING_MINUET

HERE = Path(__file__).resolve().parent
SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
"""Where the Debian package fluid-soundfont-gm puts it."""

SYNTH_RATE = 44_100
PEAK_DBFS = -1.5
"""Peak before encoding; a lossy codec may overshoot it by a fraction of a decibel."""
FADE_SECONDS = 0.4
TICKS_PER_BEAT = 480
DRUM_CHANNEL = 9
VELOCITY_SPREAD = 4.0
"""Standard deviation of a player's touch, in MIDI velocity."""
ROOM_LEVEL = 38
"""How much of each part goes to the reverb (MIDI controller 91)."""
BITE_ATTACK = 2_600
"""Half timecents added to the shortest attack: about 20 ms, so that a cut sample does not click."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One file of this folder, and how it is encoded."""

    score: Score
    file_name: str
    codec: str
    sample_format: str
    sample_rate: int
    layout: str
    bit_rate: int | None = None

    @property
    def midi_name(self) -> str:
        """Name of the MIDI file beside it."""
        return Path(self.file_name).with_suffix(".mid").name


RECORDINGS = (
    Recording(BAND_GROOVE, "band_groove.ogg", "libopus", "s16", 48_000, "stereo", 128_000),
    Recording(FIDDLE_REEL, "fiddle_reel.mp3", "libmp3lame", "s16p", 44_100, "stereo", 128_000),
    Recording(STRING_MINUET, "string_minuet.flac", "flac", "s16", 22_050, "mono"),
)


def midi_bytes(score: Score) -> bytes:
    """Return the score as a Standard MIDI File (type 1), humanised with the score's seed."""
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT)
    file.tracks.append(
        mido.MidiTrack(
            [
                mido.MetaMessage("track_name", name=score.title),
                mido.MetaMessage("copyright", text="Bandstand, CC0 1.0"),
                mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(score.tempo)),
                mido.MetaMessage("time_signature", numerator=score.beats_per_bar, denominator=4),
            ]
        )
    )
    players = random.Random(score.seed)  # noqa: S311 - a loose hand, not a secret
    melodic = iter(channel for channel in range(16) if channel != DRUM_CHANNEL)
    for part in score.parts:
        channel = DRUM_CHANNEL if isinstance(part, DrumPart) else next(melodic)
        track = mido.MidiTrack(
            [
                mido.MetaMessage("track_name", name=part.name),
                mido.Message("program_change", channel=channel, program=part.program),
            ]
        )
        controls = [(7, part.volume), (10, part.pan), (91, ROOM_LEVEL)]
        if part.bite:
            controls += [*_generator(0, part.bite), *_generator(34, BITE_ATTACK)]
        for control, value in controls:
            track.append(
                mido.Message("control_change", channel=channel, control=control, value=value)
            )
        events: list[tuple[int, int, int, int]] = []
        for note in part.notes(score.cells_per_bar):
            start, end, velocity = _perform(score, note, part.strum_ms, players)
            events += [(start, 1, note.pitch, velocity), (end, 0, note.pitch, 0)]
        _append(track, channel, events, end=_ticks(score, score.duration_seconds))
        file.tracks.append(track)
    content = io.BytesIO()
    file.save(file=content)
    return content.getvalue()


def _generator(number: int, amount: int) -> list[tuple[int, int]]:
    """Return the controls that shift a soundfont generator (SoundFont 2.01, section 9.6).

    Generator 0 is the offset at which a sample starts, 34 the attack time of its loudness.
    """
    coarse, fine = divmod(amount + 8192, 128)
    return [(99, 120), (98, number), (38, fine), (6, coarse)]


def _ticks(score: Score, seconds: float) -> int:
    return round(seconds * score.tempo / 60.0 * TICKS_PER_BEAT)


def _perform(
    score: Score, note: Note, strum_ms: float, players: random.Random
) -> tuple[int, int, int]:
    """Return start tick, end tick and velocity as a player gives them."""
    per_cell = TICKS_PER_BEAT / score.cells_per_beat

    def swung(cells: float) -> float:
        pair, place = divmod(cells, 2.0)
        first = 2.0 * score.swing
        late = place * first if place < 1.0 else first + (place - 1.0) * (2.0 - first)
        return (2.0 * pair + late) * per_cell

    looseness = max(-2.0, min(2.0, players.gauss(0.0, 1.0))) * score.timing_ms
    shift = _ticks(score, (looseness + note.strum * strum_ms) / 1000.0)
    start = max(0, round(swung(note.start)) + shift)
    end = max(start + 1, round(swung(note.start + note.length)) + shift)
    cell = int(note.start)
    bar, within = divmod(cell, score.cells_per_bar)
    metre = 5 if within == 0 else 2 if within % score.cells_per_beat == 0 else 0
    swell = score.swell[bar] if score.swell else 0
    touch = round(players.gauss(0.0, VELOCITY_SPREAD))
    return start, end, max(1, min(127, note.velocity + metre + swell + touch))


def _append(
    track: mido.MidiTrack, channel: int, events: list[tuple[int, int, int, int]], *, end: int
) -> None:
    """Write notes in order of time; at one time, ends come before starts."""
    now = 0
    for tick, sounding, pitch, velocity in sorted(events):
        kind = "note_on" if sounding else "note_off"
        track.append(
            mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=tick - now)
        )
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=max(0, end - now)))


def synthesise(midi: bytes, soundfont: Path) -> NDArray[np.float32]:
    """Return the sound of a MIDI file: shape (2, n), float32, at `SYNTH_RATE`.

    Raises:
        FileNotFoundError: no such soundfont, or `fluidsynth` is not installed.
        subprocess.CalledProcessError: FluidSynth failed.
    """
    if not soundfont.is_file():
        raise FileNotFoundError(f"no soundfont at {soundfont} (--soundfont names another)")
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder, "score.mid"), Path(folder, "sound.wav")
        score.write_bytes(midi)
        options = {
            "synth.sample-rate": str(SYNTH_RATE),
            "synth.cpu-cores": "1",
            "synth.chorus.active": "0",
            "synth.reverb.room-size": "0.45",
            "synth.reverb.damp": "0.4",
            "synth.reverb.level": "0.5",
            "synth.gain": "0.5",
            "audio.file.format": "float",
            "audio.file.type": "wav",
        }
        settings = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        subprocess.run(  # noqa: S603 - our own words only
            ["fluidsynth", "-niq", *settings, "-F", str(sound), str(soundfont), str(score)],  # noqa: S607
            check=True,
            capture_output=True,
        )
        with av.open(str(sound)) as container:
            frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate(frames, axis=1).reshape(-1, 2).T.astype(np.float32)


def master(sound: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    """Cut to length, fade the end, and normalise.

    Args:
        sound: shape (2, n), at `SYNTH_RATE`.
        seconds: length of the recording.

    Returns:
        Shape (2, round(seconds * SYNTH_RATE)), peak at `PEAK_DBFS`.
    """
    length = round(seconds * SYNTH_RATE)
    cut = np.zeros((2, length), np.float32)
    cut[:, : sound.shape[1]] = sound[:, :length]
    fade = round(FADE_SECONDS * SYNTH_RATE)
    cut[:, -fade:] *= np.cos(np.linspace(0.0, np.pi / 2.0, fade, dtype=np.float32)) ** 2
    return cut * np.float32(10.0 ** (PEAK_DBFS / 20.0) / np.abs(cut).max())


def encode(sound: NDArray[np.float32], recording: Recording, path: Path) -> None:
    """Write samples of shape (2, n) at `SYNTH_RATE` as the recording's format says."""
    with av.open(str(path), "w", options={"fflags": "bitexact"}) as container:
        stream = container.add_stream(
            recording.codec, rate=recording.sample_rate, layout=recording.layout
        )
        assert isinstance(stream, av.AudioStream)  # noqa: S101 - what an audio codec makes
        stream.options = {"compression_level": "12"} if recording.codec == "flac" else {}
        if recording.bit_rate is not None:
            stream.bit_rate = recording.bit_rate
        container.metadata["title"] = recording.score.title
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), "fltp", "stereo")
        frame.sample_rate = SYNTH_RATE
        resampler = av.AudioResampler(
            format=recording.sample_format,
            layout=recording.layout,
            rate=recording.sample_rate,
            frame_size=stream.codec_context.frame_size or 4096,
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def main() -> None:
    """Write every recording and its MIDI file."""
    parser = argparse.ArgumentParser(description="Make the recordings from their scores.")
    parser.add_argument("--soundfont", type=Path, default=SOUNDFONT)
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("libav").setLevel(logging.WARNING)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for recording in RECORDINGS:
        midi = midi_bytes(recording.score)
        (arguments.out / recording.midi_name).write_bytes(midi)
        sound = master(synthesise(midi, arguments.soundfont), recording.score.duration_seconds)
        path = arguments.out / recording.file_name
        encode(sound, recording, path)
        logging.getLogger(__name__).info(
            "%s: %.2f s, %d bytes", path.name, recording.score.duration_seconds, path.stat().st_size
        )


if __name__ == "__main__":
    main()
