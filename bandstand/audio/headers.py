"""Reads the length that a recording's header states, to detect recordings that are cut off."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

if TYPE_CHECKING:
    from bandstand.audio.decode import Encoded

# A smaller difference does not count: some encoders round the length that they write.
MISSING_SECONDS = 0.1
# Writers that cannot seek back write 0, a number just below 2**31, or 2**32 - 1 as the data size.
_UNKNOWN_RIFF_SIZE = 0x7FFF_0000
_MOST_RIFF_CHUNKS = 256
_LONGEST_MP3_FRAME = 1441
# Encoder delay (LAME: 576), decoder delay (529) and padding (up to two frames): the Xing header
# counts them, and the decoder removes them.
_MP3_PADDING_FRAMES = 3
_LOWEST_MPEG1_RATE = 32_000
_WITH_EXACT_DURATION = frozenset({"flac", "aiff", "ogg", "mov,mp4,m4a,3gp,3g2,mj2"})


def stated_seconds(
    container: InputContainer, stream: AudioStream, data: Encoded, first_packet: int | None
) -> float | None:
    """Return the length in seconds that the header states; None: it states none.

    FFmpeg's duration is used only if it comes from a header: for MP3 and raw AAC it may be an
    estimate from the bit rate, and for a WAV that is cut off it is the remaining length.

    Args:
        container: opened on `data`.
        stream: the stream to decode.
        data: the whole encoded content.
        first_packet: position of the first audio packet in `data`, in bytes.
    """
    name = container.format.name
    if name == "wav":
        return _riff_seconds(data)
    if name == "mp3":
        return _xing_seconds(data, first_packet or 0, stream.codec_context.sample_rate)
    if name in _WITH_EXACT_DURATION and stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if name == "matroska,webm" and stream.duration is None and container.duration:
        # It is the length of the longest stream, so it is used only if there is one stream.
        return float(container.duration / av.time_base) if len(container.streams) == 1 else None
    return None


def is_cut_off(data: Encoded, stated: float | None, decoded: float) -> bool:
    """Return whether content is shorter than its header states (lengths in seconds)."""
    if stated is not None and stated - decoded > MISSING_SECONDS:
        return True
    return data[:4] == b"OggS" and _last_ogg_page_is_cut(data)


def _riff_seconds(data: Encoded) -> float | None:
    """Read the length of the data chunk of a RIFF/WAVE file (IBM & Microsoft, 1991)."""
    position, bytes_per_second = 12, 0
    for _ in range(_MOST_RIFF_CHUNKS):
        if position + 8 > len(data):
            break
        name, size = struct.unpack_from("<4sI", data, position)
        if name == b"fmt " and position + 20 <= len(data):
            (bytes_per_second,) = struct.unpack_from("<I", data, position + 16)
        if name == b"data":
            known = 0 < size < _UNKNOWN_RIFF_SIZE and bytes_per_second > 0
            return size / bytes_per_second if known else None
        position += 8 + size + size % 2
    return None


def _xing_seconds(data: Encoded, first_packet: int, sample_rate: int) -> float | None:
    """Read the frame count of the Xing/Info frame, which is directly before the first packet."""
    start = max(0, first_packet - _LONGEST_MP3_FRAME)
    tag = max(data.rfind(name, start, first_packet) for name in (b"Xing", b"Info"))
    if tag < 0 or tag + 12 > len(data) or sample_rate <= 0:
        return None
    flags, frames = struct.unpack_from(">II", data, tag + 4)
    has_frames = flags & 1
    samples_per_frame = 1152 if sample_rate >= _LOWEST_MPEG1_RATE else 576
    if not has_frames or frames <= _MP3_PADDING_FRAMES:
        return None
    return float((frames - _MP3_PADDING_FRAMES) * samples_per_frame / sample_rate)


def _last_ogg_page_is_cut(data: Encoded) -> bool:
    """Return whether the last page is shorter than its segment table (RFC 3533, section 6)."""
    page = data.rfind(b"OggS")
    if page + 27 > len(data):
        return True
    segments = data[page + 27 : page + 27 + data[page + 26]]
    return page + 27 + data[page + 26] + sum(segments) > len(data)
