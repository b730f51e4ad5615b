"""Decodes encoded bytes to waveforms; the format is found by content, never by file name.

FFmpeg (through PyAV) decodes only the containers and codecs listed here, so it never opens a
playlist, image sequence or concatenation script. All protocols are disabled, so it reads only the
given bytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from bandstand.audio.headers import is_cut_off, stated_seconds
from bandstand.audio.mixdown import FrameLayout, Mixdown
from bandstand.audio.waveform import Waveform
from bandstand.errors import (
    AudioTooLongError,
    EmptyAudioError,
    NotAudioError,
    PayloadTooLargeError,
    UnsupportedAudioError,
)
from bandstand.models.card import Channels
from bandstand.settings import Settings

SUPPORTED = "WAV, AIFF, FLAC, MP3, Ogg (Vorbis, Opus, FLAC), AAC, M4A/MP4 or WebM/Matroska"
# FFmpeg's names. Containers that can refer to other files must not be added.
_DEMUXERS = ("wav", "aiff", "flac", "mp3", "ogg", "aac", "mov", "matroska")
_CODECS = frozenset(
    [f"pcm_{name}" for name in ("u8", "s8", "alaw", "mulaw")]
    + [
        f"pcm_{kind}{order}"
        for kind in ("s16", "s24", "s32", "f32", "f64")
        for order in ("le", "be")
    ]
    + ["flac", "alac", "mp3", "mp3float", "mp2", "mp2float", "vorbis", "opus", "libopus", "aac"]
)
# A frame is decoded completely before its length is known, and ALAC may declare 2**24 samples in
# one frame. The longest frames in use are FLAC's: 65535.
_DECODER_OPTIONS = {"max_samples": "131072", "threads": "1"}
_OPTIONS = {
    **_DECODER_OPTIONS,
    "format_whitelist": ",".join(_DEMUXERS),
    "codec_whitelist": ",".join(sorted(_CODECS)),
    "protocol_whitelist": "none",
    # WAV: packets of 16 KiB, not 4 KiB; and no search for DTS in PCM, which takes 6 ms.
    "max_size": "16384",
    "max_probe_packets": "1",
}
_UNKNOWN_LENGTH_CAPACITY = 1 << 16


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """The limits of accepted recordings.

    Attributes:
        max_bytes: largest encoded content.
        max_seconds: longest recording.
        max_channels: most channels.
        min_sample_rate: lowest rate, Hz.
        max_sample_rate: highest rate, Hz.
    """

    max_bytes: int
    max_seconds: float
    max_channels: int
    min_sample_rate: int
    max_sample_rate: int

    @classmethod
    def from_settings(cls, settings: Settings) -> DecodeLimits:
        """Return the limits of the settings."""
        return cls(
            max_bytes=settings.max_upload_bytes,
            max_seconds=settings.max_audio_seconds,
            max_channels=settings.max_channels,
            min_sample_rate=settings.min_sample_rate,
            max_sample_rate=settings.max_sample_rate,
        )


def decode(data: bytes, limits: DecodeLimits, *, channels: Channels = 1) -> Waveform:
    """Decode the first audio stream of the content at its own rate, to mono or to two channels.

    For mono, channels are averaged. For two channels, stereo is not changed, mono is duplicated,
    and more channels are mixed as in `bandstand.audio.mixdown`. Integers are scaled by their full
    range (int16 / 32768). Encoder delay and padding are removed if the container declares them.
    Content that is cut off or has damaged packets is decoded as far as possible, and marked
    `truncated`.

    Raises:
        EmptyAudioError: there are no bytes, or no samples.
        PayloadTooLargeError: there are more bytes than the limits allow.
        NotAudioError: it is not audio, or the format is not supported.
        UnsupportedAudioError: channels or rate are outside the limits, or the rate changes.
        AudioTooLongError: it is longer than the limits allow; raised before the excess is decoded.
        NonFiniteAudioError: samples are NaN or infinite.
    """
    return decode_channels(data, limits, {channels})[channels]


def decode_channels(
    data: bytes, limits: DecodeLimits, wanted: Collection[Channels]
) -> dict[Channels, Waveform]:
    """Decode the content once, and return a waveform for each requested number of channels.

    Args:
        data: encoded content.
        limits: the limits of accepted recordings.
        wanted: one or more numbers of channels.

    Raises:
        BandstandError: as `decode`.
    """
    if not data:
        raise EmptyAudioError("the audio is empty: zero bytes")
    if len(data) > limits.max_bytes:
        raise PayloadTooLargeError(
            f"the audio has {len(data)} bytes; at most {limits.max_bytes} are accepted"
        )
    try:
        container = av.open(_Content(data), "r", options=_OPTIONS, metadata_errors="replace")
    except av.FFmpegError as error:
        raise NotAudioError(
            f"the content is not audio that can be decoded ({SUPPORTED})"
        ) from error
    # Damaged floats may be NaN or overflow meanwhile; `Mixdown.finish` checks them.
    with container, np.errstate(over="ignore", invalid="ignore"):
        decoding = _Decoding(container, data, limits, wanted)
        decoding.run()
        rate, truncated = decoding.sample_rate, decoding.is_truncated
        sha256 = hashlib.sha256(data).hexdigest()
        return {
            mixdown.channels: Waveform(mixdown.finish(), rate, sha256, truncated)
            for mixdown in decoding.mixdowns
        }


class _Content(io.BytesIO):
    """Bytes as a file that returns -1 for an invalid seek, as FFmpeg expects, and never raises.

    PyAV would store an exception and raise it in the next decoding of this thread.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return -1


class _Decoding:
    """Decodes one container in one pass."""

    def __init__(
        self,
        container: InputContainer,
        data: bytes,
        limits: DecodeLimits,
        wanted: Collection[Channels],
    ) -> None:
        self.mixdowns = [Mixdown(channels, _UNKNOWN_LENGTH_CAPACITY) for channels in wanted]
        self._container = container
        self._data = data
        self._limits = limits
        self._stream = _first_audio_stream(container)
        context = self._stream.codec_context
        # As the container declares; `_append` replaces it by the first frame's layout.
        self._layout = FrameLayout(context.sample_rate, context.channels, "", "")
        self._stated: float | None = None
        self._is_broken = False

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self._layout.sample_rate

    @property
    def count(self) -> int:
        """The number of samples of each channel so far."""
        return self.mixdowns[0].count

    @property
    def is_truncated(self) -> bool:
        """After `run`: the content is damaged, or shorter than its header states."""
        seconds = self.count / self.sample_rate
        return self._is_broken or is_cut_off(self._data, self._stated, seconds)

    def run(self) -> None:
        """Decode every packet; skip those that cannot be decoded, as players do."""
        if self._layout.sample_rate and self._layout.channels:
            self._check_layout()
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self._is_broken = True
                continue
            for frame in frames:
                self._append(frame)
        if self.count == 0:
            if self._is_broken:
                raise NotAudioError("no part of the content could be decoded as audio")
            raise EmptyAudioError("the audio is empty: it has no samples")

    def _packets(self) -> Iterator[Packet[AudioStream]]:
        """Yield the stream's packets, after reading the length that the header states."""
        try:
            for index, packet in enumerate(self._container.demux(self._stream)):
                if index == 0:
                    self._read_length(packet)
                yield packet
        except av.FFmpegError:
            self._is_broken = True

    def _read_length(self, first: Packet[AudioStream]) -> None:
        """Refuse content whose stated length is too long; else allocate memory for that length."""
        self._stated = stated_seconds(self._container, self._stream, self._data, first.pos)
        if self._stated is not None:
            self._check_length(self._stated)
            capacity = round(self._stated * self.sample_rate)
            self.mixdowns = [Mixdown(each.channels, capacity) for each in self.mixdowns]

    def _append(self, frame: AudioFrame) -> None:
        places = frame.layout
        layout = FrameLayout(frame.sample_rate, places.nb_channels, frame.format.name, places.name)
        if layout != self._layout:
            if self.count and layout.sample_rate != self.sample_rate:
                raise UnsupportedAudioError(
                    f"the sample rate changes from {self.sample_rate} to {layout.sample_rate} Hz "
                    "within the audio"
                )
            self._layout = layout
            self._check_layout()
        self._check_length((self.count + frame.samples) / self.sample_rate)
        for mixdown in self.mixdowns:
            mixdown.append(frame, self._layout)

    def _check_layout(self) -> None:
        limits, layout = self._limits, self._layout
        if not 1 <= layout.channels <= limits.max_channels:
            raise UnsupportedAudioError(
                f"the audio has {layout.channels} channels; 1 to {limits.max_channels} are accepted"
            )
        if not limits.min_sample_rate <= layout.sample_rate <= limits.max_sample_rate:
            raise UnsupportedAudioError(
                f"the audio has a sample rate of {layout.sample_rate} Hz; "
                f"{limits.min_sample_rate} to {limits.max_sample_rate} are accepted"
            )

    def _check_length(self, seconds: float) -> None:
        if seconds > self._limits.max_seconds:
            raise AudioTooLongError(
                f"the audio is longer than the {self._limits.max_seconds:g} s that are accepted"
            )


def _first_audio_stream(container: InputContainer) -> AudioStream:
    """Return the stream to decode; its decoder is configured and not yet open."""
    if not container.streams.audio:
        raise NotAudioError("there is no audio in the content")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None or context.name not in _CODECS:
        raise NotAudioError(f"the content's audio codec is not supported ({SUPPORTED})")
    context.options = dict(_DECODER_OPTIONS)
    return stream
