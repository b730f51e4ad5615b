"""Every format that is decoded, against what went in and against libsndfile."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from bandstand.audio.decode import DecodeLimits, OutputFormat, decode, decode_formats
from bandstand.audio.mixdown import channel_weights
from bandstand.settings import Settings
from harness.audio_files import encode_with_ffmpeg, encode_with_soundfile, tone
from harness.recordings import wav

LIMITS = DecodeLimits.from_settings(Settings())


def read_with_soundfile(data: bytes) -> np.ndarray:
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return samples.mean(axis=1)


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "PCM_32"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAV", "ULAW"),
        ("FLAC", "PCM_S8"),
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("AIFF", "PCM_S8"),
        ("AIFF", "PCM_16"),
        ("AIFF", "PCM_24"),
        ("AIFF", "FLOAT"),
    ],
)
def test_lossless_formats_are_what_soundfile_reads(
    container: str, subtype: str, channels: int
) -> None:
    data = encode_with_soundfile(tone(0.7, 44_100, channels), 44_100, container, subtype)
    waveform = decode(data, LIMITS)
    expected = read_with_soundfile(data)
    assert waveform.sample_rate == 44_100
    assert waveform.samples.shape == expected.shape
    np.testing.assert_allclose(waveform.samples, expected, rtol=0, atol=1e-6)
    assert not waveform.truncated


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("container", "subtype", "sample_rate"),
    [
        ("OGG", "VORBIS", 22_050),
        ("OGG", "VORBIS", 44_100),
        ("OGG", "OPUS", 48_000),
        ("MP3", "MPEG_LAYER_III", 22_050),
        ("MP3", "MPEG_LAYER_III", 44_100),
    ],
)
def test_lossy_formats_are_what_soundfile_reads(
    container: str, subtype: str, sample_rate: int, channels: int
) -> None:
    data = encode_with_soundfile(tone(2, sample_rate, channels), sample_rate, container, subtype)
    waveform = decode(data, LIMITS)
    expected = read_with_soundfile(data)
    assert waveform.samples.shape == expected.shape
    np.testing.assert_allclose(waveform.samples, expected, rtol=0, atol=1e-4)
    assert not waveform.truncated


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp3", "libmp3lame", {}),
        ("ogg", "libopus", {}),
        ("ogg", "flac", {}),
        ("mp4", "aac", {}),
        ("mp4", "aac", {"movflags": "faststart"}),
        ("ipod", "alac", {}),
        ("mov", "pcm_s16le", {}),
        ("webm", "libopus", {}),
        ("matroska", "flac", {}),
    ],
)
def test_delay_and_padding_of_the_encoder_are_cut_off(
    container: str, codec: str, options: dict[str, str]
) -> None:
    samples = tone(2, 48_000, 2)
    data = encode_with_ffmpeg(samples, 48_000, container, codec, **options)
    waveform = decode(data, LIMITS)
    mono = samples.mean(axis=1)
    # AAC keeps the padding of its last frame (1024 samples), as ffmpeg does.
    assert len(mono) <= len(waveform.samples) <= len(mono) + 1024
    assert np.corrcoef(mono, waveform.samples[: len(mono)])[0, 1] > 0.99
    assert not waveform.truncated


def test_raw_aac_is_decoded() -> None:
    samples = tone(2, 44_100)
    waveform = decode(encode_with_ffmpeg(samples, 44_100, "adts", "aac"), LIMITS)
    assert waveform.sample_rate == 44_100
    assert waveform.duration_seconds == pytest.approx(2, abs=0.1)
    assert not waveform.truncated


def test_the_audio_of_a_video_is_decoded() -> None:
    data = _video_with_tone()
    waveform = decode(data, LIMITS)
    assert waveform.duration_seconds == pytest.approx(1, abs=0.03)
    assert np.abs(waveform.samples).max() > 0.2


def test_a_cover_picture_is_no_obstacle() -> None:
    song = encode_with_ffmpeg(tone(1, 44_100), 44_100, "mp3", "libmp3lame")
    data = _id3_picture(b"\x89PNG\r\n\x1a\n" + bytes(50_000)) + song[song.index(b"\xff\xfb") :]
    waveform = decode(data, LIMITS)
    assert waveform.duration_seconds == pytest.approx(1, abs=0.1)
    assert not waveform.truncated


def test_samples_are_contiguous_float32_and_the_digest_is_of_the_content() -> None:
    data = wav(tone(0.5, 22_050, 2), 22_050)
    waveform = decode(data, LIMITS)
    assert waveform.samples.dtype == np.float32
    assert waveform.samples.flags.c_contiguous
    assert waveform.samples.flags.writeable
    assert waveform.sha256 == hashlib.sha256(data).hexdigest()


def test_a_wav_of_unknown_length_is_whole() -> None:
    """Writers to a pipe leave no size, or the largest there is, in the data chunk."""
    data = wav(tone(1, 22_050), 22_050)
    size = data.index(b"data") + 4
    for unknown in (0, 0x7FFF_F000, 0xFFFF_FFFF):
        piped = data[:size] + unknown.to_bytes(4, "little") + data[size + 4 :]
        waveform = decode(piped, LIMITS)
        assert len(waveform.samples) == 22_050
        assert not waveform.truncated


def test_real_clips_are_whole_and_what_soundfile_reads(clips: list[Path], data_dir: Path) -> None:
    recordings = [*clips, *sorted((data_dir / "drums").glob("*.flac"))]
    assert recordings
    for recording in recordings:
        data = recording.read_bytes()
        waveform = decode(data, LIMITS)
        expected = read_with_soundfile(data)
        assert waveform.samples.shape == expected.shape, recording.name
        np.testing.assert_allclose(waveform.samples, expected, rtol=0, atol=1e-6)
        assert not waveform.truncated, recording.name


def test_two_channels_are_kept_and_mono_is_their_mean(data_dir: Path) -> None:
    mixes = sorted((data_dir / "drums").glob("*_MIX.flac"))
    assert mixes
    for mix in mixes:
        data = mix.read_bytes()
        formats = {1: OutputFormat(1), 2: OutputFormat(2)}
        decoded = decode_formats(data, LIMITS, formats.values())
        both = {channels: decoded.waveforms[each] for channels, each in formats.items()}
        expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        assert expected.shape[1] == 2
        assert both[2].samples.shape == expected.T.shape
        assert both[2].samples.flags.c_contiguous
        assert np.abs(expected[:, 0] - expected[:, 1]).max() > 0.01, "a mix with two sides"
        np.testing.assert_array_equal(both[2].samples, expected.T)
        np.testing.assert_array_equal(both[1].samples, decode(data, LIMITS).samples)
        assert both[1].duration_seconds == both[2].duration_seconds
        assert both[1].sha256 == both[2].sha256


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE"])
def test_mono_is_in_both_of_two_channels(subtype: str) -> None:
    data = encode_with_soundfile(tone(0.3, 44_100), 44_100, "WAV", subtype)
    mono, stereo = decode(data, LIMITS), decode(data, LIMITS, channels=2)
    assert (mono.channels, stereo.channels) == (1, 2)
    for channel in stereo.samples:
        np.testing.assert_array_equal(channel, mono.samples)


@pytest.mark.parametrize(
    ("container", "codec"), [("mp3", "libmp3lame"), ("ogg", "libopus"), ("mp4", "aac")]
)
def test_lossy_stereo_keeps_its_sides(container: str, codec: str) -> None:
    samples = tone(1, 48_000, 2)
    stereo = decode(encode_with_ffmpeg(samples, 48_000, container, codec), LIMITS, channels=2)
    heard = stereo.samples[:, : len(samples)]
    similar = np.corrcoef(samples.T, heard)[:2, 2:]
    assert np.diag(similar).min() > 0.99
    assert similar[0, 1] < 0.9


# What a channel at full scale, alone, gives on the left and on the right, before both are divided
# by the largest sum that a side can have: 1 in front, 0.7071 for centre and surround (BS.775-3).
SQRT_HALF = 0.5**0.5
LEFT, RIGHT, BOTH, NEITHER = (1, 0), (0, 1), (SQRT_HALF, SQRT_HALF), (0, 0)
BEHIND_LEFT, BEHIND_RIGHT = (SQRT_HALF, 0), (0, SQRT_HALF)
PLACES = {
    "3.0": (LEFT, RIGHT, BOTH),
    "quad": (LEFT, RIGHT, BEHIND_LEFT, BEHIND_RIGHT),
    "5.1": (LEFT, RIGHT, BOTH, NEITHER, BEHIND_LEFT, BEHIND_RIGHT),
    "7.1": (LEFT, RIGHT, BOTH, NEITHER, *[BEHIND_LEFT, BEHIND_RIGHT] * 2),
}


@pytest.mark.parametrize("layout", PLACES)
def test_more_channels_are_mixed_to_two_by_their_places(layout: str) -> None:
    places = np.array(PLACES[layout])
    count = len(places)
    samples = tone(0.2, 48_000, count)
    stereo = decode(_multichannel(samples, layout), LIMITS, channels=2).samples
    assert stereo.shape == (2, len(samples))
    np.testing.assert_allclose(stereo.T, samples @ (places / places.sum(axis=0)), atol=1e-6)
    mono = decode(_multichannel(samples, layout), LIMITS).samples
    np.testing.assert_allclose(mono, samples.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("layout", ["3 channels", "5.1", "of a file's own making", ""])
def test_channels_without_a_known_place_are_on_both_sides(layout: str) -> None:
    for side in ("left", "right"):
        weights = channel_weights(layout, 3, side)
        assert [index for index, _ in weights] == [0, 1, 2]
        assert len({weight for _, weight in weights}) == 1


def test_eight_channels_take_no_more_memory_than_two() -> None:
    """What is held is what was asked for, and one more channel while the two are joined."""
    data = encode_with_soundfile(tone(20, 48_000, 8), 48_000, "WAV", "PCM_16")
    decode(data, LIMITS, channels=2)
    tracemalloc.start()
    try:
        stereo = decode(data, LIMITS, channels=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4.2 * stereo.samples[0].nbytes


def _multichannel(samples: np.ndarray, layout: str) -> bytes:
    """Return a float32 WAV whose header places its channels."""
    target = io.BytesIO()
    with av.open(target, "w", format="wav") as output:
        stream = output.add_stream("pcm_f32le", rate=48_000, layout=layout)
        for start in range(0, len(samples), 1024):
            block = np.ascontiguousarray(samples[start : start + 1024].reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return target.getvalue()


def _video_with_tone() -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        pictures = output.add_stream("mpeg4", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = output.add_stream("aac", rate=44_100, layout="mono")
        picture = av.VideoFrame(64, 48, "yuv420p")
        for index in range(25):
            picture.pts = index
            output.mux(pictures.encode(picture))
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(tone(1, 44_100).T), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = 44_100, 0, Fraction(1, 44_100)
        output.mux(sound.encode(frame))
        output.mux(pictures.encode(None))
        output.mux(sound.encode(None))
    return target.getvalue()


def _id3_picture(image: bytes) -> bytes:
    """Return an ID3v2.3 tag that holds a picture."""
    body = b"\x00image/png\x00\x03\x00" + image
    frame = b"APIC" + len(body).to_bytes(4, "big") + b"\x00\x00" + body
    size = bytes((len(frame) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + size + frame
