"""Any input is decoded, or refused with the right error, within limits of time and memory."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.errors import (
    AudioTooLongError,
    BandstandError,
    EmptyAudioError,
    NonFiniteAudioError,
    NotAudioError,
    PayloadTooLargeError,
    UnsupportedAudioError,
)
from bandstand.settings import Settings
from harness import PROJECT_ROOT
from harness.audio_files import encode_with_ffmpeg, encode_with_soundfile, tone
from harness.recordings import flac, long_silence, wav

LIMITS = DecodeLimits.from_settings(Settings())
PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00"
    b"\x1f\x15\xc4\x89\x00\x00\x00\nIDATx\x9cc\x00\x01\x00\x00\x05\x00\x01\r\n-\xb4\x00\x00\x00"
    b"\x00IEND\xaeB`\x82"
)


def mp3(seconds: float, sample_rate: int = 44_100, channels: int = 1) -> bytes:
    return encode_with_ffmpeg(
        tone(seconds, sample_rate, channels), sample_rate, "mp3", "libmp3lame"
    )


def vorbis(seconds: float, sample_rate: int = 22_050, channels: int = 1) -> bytes:
    return encode_with_soundfile(tone(seconds, sample_rate, channels), sample_rate, "OGG", "VORBIS")


def test_zero_bytes_are_empty() -> None:
    with pytest.raises(EmptyAudioError):
        decode(b"", LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        wav(np.zeros((0, 1)), 44_100),
        encode_with_soundfile(np.zeros((0, 1)), 44_100, "AIFF", "PCM_16"),
        encode_with_soundfile(np.zeros((0, 1)), 44_100, "OGG", "VORBIS"),
    ],
    ids=["wav", "aiff", "ogg"],
)
def test_no_sample_is_empty(data: bytes) -> None:
    assert data
    with pytest.raises(EmptyAudioError):
        decode(data, LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        b"These are words in a file called song.mp3.\n" * 200,
        PNG,
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(3000),
        b"<html><body>404</body></html>",
        bytes(100_000),
        np.random.default_rng(1).bytes(100_000),
        b"RIFF",
        wav(tone(1, 22_050), 22_050)[:30],
        b"OggS" + bytes(100),
        b"fLaC" + bytes(100),
        b"ID3\x04\x00\x00\x00\x00\x10\x00" + bytes(3000),
    ],
    ids=["text", "png", "pdf", "html", "zeros", "noise", "riff", "wav", "ogg", "flac", "id3"],
)
def test_what_is_no_audio_is_refused(data: bytes) -> None:
    with pytest.raises(NotAudioError):
        decode(data, LIMITS)


@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile 'song.wav'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsong.wav\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{folder}/song.wav\n#EXT-X-ENDLIST",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
        "<?xml version='1.0'?><MPD type='static'><Period/></MPD>",
    ],
    ids=["ffconcat", "m3u8", "m3u8-file", "m3u8-http", "sdp", "dash"],
)
def test_a_script_that_names_other_files_opens_none(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "song.wav").write_bytes(wav(tone(1, 22_050), 22_050))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotAudioError):
        decode(script.replace("{folder}", str(tmp_path)).encode(), LIMITS)


def test_a_codec_or_container_that_is_not_listed_is_refused() -> None:
    samples = tone(1, 48_000, 2)
    for container, codec in [("matroska", "ac3"), ("mpegts", "aac"), ("avi", "libmp3lame")]:
        with pytest.raises(NotAudioError):
            decode(encode_with_ffmpeg(samples, 48_000, container, codec), LIMITS)


CUT = {
    "wav": wav(tone(3, 22_050), 22_050),
    "wav-float": wav(tone(3, 22_050), 22_050, "FLOAT"),
    "aiff": encode_with_soundfile(tone(3, 22_050), 22_050, "AIFF", "PCM_16"),
    "flac": flac(tone(3, 22_050), 22_050),
    "mp3": mp3(3),
    "vorbis": vorbis(3),
    "opus": encode_with_ffmpeg(tone(3, 48_000), 48_000, "ogg", "libopus"),
    "webm": encode_with_ffmpeg(tone(3, 48_000), 48_000, "webm", "libopus"),
    "m4a": encode_with_ffmpeg(tone(3, 44_100), 44_100, "mp4", "aac", movflags="faststart"),
}


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("name", CUT)
def test_what_is_left_of_a_cut_file_is_kept_and_marked(name: str, share: float) -> None:
    data = CUT[name]
    whole = decode(data, LIMITS)
    part = decode(data[: round(len(data) * share)], LIMITS)
    assert not whole.truncated
    assert part.truncated
    assert share - 0.35 < len(part.samples) / len(whole.samples) < share + 0.1
    common = len(part.samples) - 4096
    np.testing.assert_allclose(part.samples[:common], whole.samples[:common], atol=1e-5)


def test_a_cut_real_clip_is_kept_and_marked(clips: list[Path]) -> None:
    data = clips[0].read_bytes()
    part = decode(data[: len(data) // 3], LIMITS)
    assert part.truncated
    assert part.duration_seconds > 1


def test_an_m4a_without_its_index_is_refused() -> None:
    data = encode_with_ffmpeg(tone(2, 44_100), 44_100, "mp4", "aac")
    with pytest.raises(NotAudioError):
        decode(data[: len(data) // 2], LIMITS)


def test_broken_packets_are_left_out_and_marked() -> None:
    data = bytearray(CUT["flac"])
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    waveform = decode(bytes(data), LIMITS)
    assert waveform.truncated
    assert waveform.duration_seconds > 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_are_no_numbers_are_refused(value: float, channels: int) -> None:
    samples = tone(1, 22_050, channels).astype(np.float64)
    samples[1000, 0] = value
    with pytest.raises(NonFiniteAudioError):
        decode(wav(samples, 22_050, "DOUBLE"), LIMITS)


def test_rates_and_channels_within_the_limits_are_decoded() -> None:
    waveform = decode(wav(tone(0.2, 192_000, 8), 192_000), LIMITS)
    assert (waveform.sample_rate, len(waveform.samples)) == (192_000, 38_400)
    assert decode(wav(tone(0.2, 4_000), 4_000), LIMITS).sample_rate == 4_000


@pytest.mark.parametrize(
    ("sample_rate", "channels", "words"),
    [(44_100, 9, "9 channels"), (384_000, 1, "384000 Hz"), (2_000, 1, "2000 Hz")],
)
def test_rates_and_channels_outside_the_limits_are_refused(
    sample_rate: int, channels: int, words: str
) -> None:
    with pytest.raises(UnsupportedAudioError, match=words):
        decode(wav(tone(0.2, sample_rate, channels), sample_rate), LIMITS)


def test_a_rate_that_changes_midway_is_refused() -> None:
    with pytest.raises(UnsupportedAudioError, match="sample rate changes"):
        decode(mp3(1, 44_100) + mp3(1, 22_050), LIMITS)


def test_channels_that_change_midway_are_mixed_down() -> None:
    waveform = decode(mp3(1, 44_100, 1) + mp3(1, 44_100, 2), LIMITS)
    assert waveform.duration_seconds == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("second", [vorbis(1), vorbis(1, 44_100), vorbis(1, 22_050, 2)])
def test_chained_ogg_gives_at_least_its_first_link(second: bytes) -> None:
    waveform = decode(vorbis(1) + second, LIMITS)
    assert waveform.sample_rate == 22_050
    assert waveform.truncated or waveform.duration_seconds == pytest.approx(2, abs=0.1)


def test_too_many_bytes_are_refused_unread() -> None:
    limits = replace(LIMITS, max_bytes=1000)
    with pytest.raises(PayloadTooLargeError, match="at most 1000"):
        decode(bytes(1001), limits)


@pytest.mark.parametrize("name", CUT)
def test_too_long_is_refused_whatever_the_format(name: str) -> None:
    with pytest.raises(AudioTooLongError, match="2 s"):
        decode(CUT[name], replace(LIMITS, max_seconds=2.0))
    assert decode(CUT[name], replace(LIMITS, max_seconds=3.1)).duration_seconds > 2.9


TEN_HOURS = """
import resource, sys, time
from pathlib import Path
from bandstand.audio.decode import DecodeLimits, decode
from bandstand.errors import AudioTooLongError
from bandstand.settings import Settings
data, limits = Path(sys.argv[1]).read_bytes(), DecodeLimits.from_settings(Settings())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(data, limits)
except AudioTooLongError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("says_its_length", [True, False])
def test_ten_hours_of_silence_cost_little_memory(says_its_length: bool, tmp_path: Path) -> None:
    """Half a megabyte of FLAC; decoded whole, it would be 576 MB of float32."""
    recording = tmp_path / "silence.flac"
    recording.write_bytes(long_silence(hours=10))
    data = bytearray(recording.read_bytes())
    assert len(data) < 1_000_000
    if not says_its_length:  # STREAMINFO's 36 bits of total samples (RFC 9639, section 8.2)
        data[21] &= 0xF0
        data[22:26] = bytes(4)
        recording.write_bytes(data)
    run = subprocess.run(
        [sys.executable, "-c", TEN_HOURS, str(recording)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    grown_kib = int(run.stdout)
    # 900 s at 4 kHz are 14 MB; growing in place may hold half as much again.
    assert grown_kib < 60_000


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip bits, most of them near the start; now and then cut a piece out, or the end off."""
    damaged = bytearray(data)
    for _ in range(rng.choice([0, 1, 10, 200])):
        reach = min(len(damaged), rng.choice([64, 2000, len(damaged)]))
        damaged[rng.integers(reach)] ^= 1 << rng.integers(8)
    if rng.random() < 0.3:
        start = rng.integers(len(damaged))
        del damaged[start : start + rng.integers(2000)]
    if rng.random() < 0.3 and damaged:
        del damaged[rng.integers(len(damaged)) :]
    return bytes(damaged)


def test_damage_of_any_kind_is_decoded_or_refused_by_name() -> None:
    rng = np.random.default_rng(20_240)
    limits = replace(LIMITS, max_seconds=60.0)
    outcomes = set()
    for _ in range(600):
        try:
            waveform = decode(damage(CUT[rng.choice(list(CUT))], rng), limits)
        except BandstandError as error:
            outcomes.add(type(error))
        else:
            assert len(waveform.samples) > 0
            assert np.isfinite(waveform.samples).all()
            outcomes.add(waveform.truncated)
    assert {True, False, NotAudioError} <= outcomes


def test_refused_content_leaves_no_error_for_the_next() -> None:
    rng = np.random.default_rng(5)
    for _ in range(100):
        with contextlib.suppress(BandstandError):
            decode(damage(CUT["m4a"], rng), LIMITS)
        assert len(decode(CUT["wav"], LIMITS).samples) == 66_150
