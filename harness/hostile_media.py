"""Media that harm a careless decoder: containers that lie, and seeded mutations of good media."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache

import av
import numpy as np
import soundfile

from harness.audio_files import encode_with_ffmpeg, encode_with_soundfile, tone
from harness.recordings import wav

Random = np.random.Generator


@lru_cache(maxsize=1)
def good_media() -> dict[str, bytes]:
    """Return three seconds of sound in every accepted format."""
    cd, voice, video = tone(3, 44_100), tone(3, 22_050), tone(3, 48_000)
    return {
        "wav": wav(voice, 22_050),
        "wav-float": wav(voice, 22_050, "FLOAT"),
        "wav-stereo": wav(tone(3, 44_100, 2), 44_100),
        "aiff": encode_with_soundfile(voice, 22_050, "AIFF", "PCM_16"),
        "flac": encode_with_soundfile(voice, 22_050, "FLAC", "PCM_16"),
        "mp3": encode_with_ffmpeg(cd, 44_100, "mp3", "libmp3lame"),
        "vorbis": encode_with_soundfile(voice, 22_050, "OGG", "VORBIS"),
        "opus": encode_with_ffmpeg(video, 48_000, "ogg", "libopus"),
        "webm": encode_with_ffmpeg(video, 48_000, "webm", "libopus"),
        "aac": encode_with_ffmpeg(cd, 44_100, "adts", "aac"),
        "m4a": encode_with_ffmpeg(cd, 44_100, "mp4", "aac", movflags="faststart"),
        "alac": encode_with_ffmpeg(tone(3, 44_100), 44_100, "mp4", "alac"),
    }


def box(name: bytes, *content: bytes) -> bytes:
    """Return a box of an MP4 file (ISO/IEC 14496-12)."""
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + name + body


def m4a_that_claims(samples: int, tracks: int = 1) -> bytes:
    """Return an M4A of some hundred bytes whose sample tables state `samples` samples each.

    FFmpeg makes an index of 24 bytes for each of them when it opens the file.
    """
    zero = bytes(4)
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    movie = box(b"mvhd", zero * 3, struct.pack(">II", 1000, 1000), bytes(80) + b"\0\0\0\2")
    entry = bytes(6) + struct.pack(">H8xHHIHH", 1, 1, 16, 0, 44_100, 0)
    described = box(b"stsd", zero, struct.pack(">I", 1), box(b"alac", entry[:28], bytes(36)))
    table = box(
        b"stbl",
        described,
        box(b"stts", zero, struct.pack(">III", 1, samples, 2)),
        box(b"stsc", zero, struct.pack(">IIII", 1, 1, samples, 1)),
        box(b"stsz", zero, struct.pack(">II", 4, samples)),
        box(b"stco", zero, struct.pack(">II", 1, 8)),
    )
    media = box(
        b"mdia",
        box(b"mdhd", zero * 3, struct.pack(">IIHH", 44_100, 44_100, 0x55C4, 0)),
        box(b"hdlr", zero * 2, b"soun", zero * 3, b"\0"),
        box(b"minf", box(b"smhd", zero * 2), table),
    )
    track = box(b"trak", box(b"tkhd", b"\0\0\0\7", bytes(36), matrix, zero * 2), media)
    return box(b"ftyp", b"M4A ", zero, b"isom") + box(b"moov", movie, track * tracks)


def mp3_with_inflating_pictures(pictures: int, megabytes: int) -> bytes:
    """Return an MP3 whose ID3v2.4 tag has compressed pictures, a thousand times as large inside."""
    picture = b"\0image/png\0\3\0" + bytes(megabytes << 20)
    packed = zlib.compress(picture, 9)
    frame = b"APIC" + _syncsafe(len(packed) + 4) + b"\0\x09" + _syncsafe(len(picture)) + packed
    tag = frame * pictures
    return b"ID3\4\0\0" + _syncsafe(len(tag)) + tag + good_media()["mp3"]


def _syncsafe(number: int) -> bytes:
    return bytes((number >> shift) & 0x7F for shift in (21, 14, 7, 0))


def matroska_with_packets_of_nothing(packets: int) -> bytes:
    """Return a second of AAC, packets of one byte that bring no sample, and another second."""
    whole = encode_with_ffmpeg(tone(1, 44_100), 44_100, "matroska", "aac")
    target = io.BytesIO()
    with av.open(io.BytesIO(whole)) as source, av.open(target, "w", format="matroska") as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        good = [(packet.pts, bytes(packet)) for packet in source.demux() if packet.size]
        end = good[-1][0]
        empty = [(end + index // 20, b"\0") for index in range(packets)]
        again = [(end + packets // 20 + 100 + pts, content) for pts, content in good]
        for pts, content in good + empty + again:
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, stream.time_base
            packet.pts = packet.dts = pts
            output.mux(packet)
    return target.getvalue()


def silence(seconds: float, sample_rate: int) -> bytes:
    """Return silence as FLAC: 600 bytes a second at 192 kHz, 12 at 4 kHz."""
    content = io.BytesIO()
    with soundfile.SoundFile(
        content, "w", sample_rate, 1, subtype="PCM_16", format="FLAC", compression_level=1.0
    ) as file:
        for _ in range(round(seconds)):
            file.write(np.zeros(sample_rate, np.int16))
    return content.getvalue()


def flipped(data: bytes, rng: Random) -> bytes:
    """Flip bits, most of them near the start, where the headers are."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 40))):
        reach = 400 if rng.random() < 0.6 else len(changed)
        changed[int(rng.integers(0, min(reach, len(changed))))] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def cut(data: bytes, rng: Random) -> bytes:
    """Cut the end off, or a piece out."""
    a, b = sorted(int(place) for place in rng.integers(0, len(data), 2))
    return data[:b] if rng.random() < 0.5 else data[:a] + data[b:]


def spliced(data: bytes, rng: Random) -> bytes:
    """Go on in another medium, or repeat a piece."""
    others = list(good_media().values())
    other = others[int(rng.integers(0, len(others)))]
    a, b = int(rng.integers(0, len(data))), int(rng.integers(0, len(other)))
    return data[:a] + other[b:] if rng.random() < 0.7 else data[:a] * int(rng.integers(2, 5))


def lying(data: bytes, rng: Random) -> bytes:
    """Write a number that is too large, or zero, where a header has a length, count or rate."""
    changed = bytearray(data)
    liars = (0, 1, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 26, 0x8000_0000, int(rng.integers(0, 1 << 32)))
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(4, min(len(changed) - 4, 700)))
        order = "<I" if rng.random() < 0.5 else ">I"
        struct.pack_into(order, changed, place, liars[int(rng.integers(0, len(liars)))])
    return bytes(changed)


def nested(data: bytes, rng: Random) -> bytes:
    """Put boxes, tags or whole files into each other."""
    kind = int(rng.integers(0, 3))
    if kind == 0:
        inner = data[: int(rng.integers(8, 2000))]
        for _ in range(int(rng.integers(2, 200))):
            inner = box(b"moov" if rng.random() < 0.7 else b"trak", inner)
        return box(b"ftyp", b"M4A ", bytes(4)) + inner
    if kind == 1:
        tag = b"ID3\4\0\0" + _syncsafe(int(rng.integers(0, 1 << 27)))
        return tag * int(rng.integers(1, 50)) + data
    return data * int(rng.integers(2, 6))


def _made(rng: Random) -> bytes:
    """Return one of the media made to harm, of a random size."""
    kind = int(rng.integers(0, 4))
    if kind == 0:
        return m4a_that_claims(1 << int(rng.integers(10, 31)), int(rng.integers(1, 40)))
    if kind == 1:
        return mp3_with_inflating_pictures(int(rng.integers(1, 8)), int(rng.integers(1, 16)))
    if kind == 2:
        return matroska_with_packets_of_nothing(int(rng.integers(1_000, 20_000)))
    # Most are too long; an accepted one is honest work of some seconds.
    return silence(float(rng.integers(200, 3_000)), int(rng.choice([4_000, 16_000])))


_MUTATIONS: tuple[Callable[[bytes, Random], bytes], ...] = (flipped, cut, spliced, lying, nested)


def hostile_media(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield descriptions and media; one in twenty is made from nothing, the others are mutated."""
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        if rng.random() < 0.05:
            yield f"{seed}/{index} made", _made(rng)
            continue
        names = list(good_media())
        name = names[int(rng.integers(0, len(names)))]
        data, applied = good_media()[name], []
        for _ in range(int(rng.integers(1, 4))):
            mutation = _MUTATIONS[int(rng.integers(0, len(_MUTATIONS)))]
            applied.append(mutation.__name__)
            data = mutation(data, rng) if len(data) > 16 else data
        yield f"{seed}/{index} {name} {' '.join(applied)}", data[: 4 << 20]
