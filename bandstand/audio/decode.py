"""Decodes encoded bytes to waveforms; the format is found by content, never by file name.

FFmpeg (through PyAV) decodes only the containers and codecs listed here, so it never opens a
playlist, image sequence or concatenation script. All protocols are disabled, so it reads only the
given bytes. Samples are mixed and resampled in blocks, so that no waveform at the recording's own
rate is in memory, which may be nine times as large as the one that a model needs.
"""

from __future__ import annotations

import hashlib
import io
import mmap
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from bandstand.audio.effort import Effort
from bandstand.audio.headers import is_cut_off, stated_seconds
from bandstand.audio.mixdown import SIDES, ChannelMix, FrameLayout, Side
from bandstand.audio.waveform import FloatArray, Resampler, Waveform
from bandstand.errors import (
    AudioTooLongError,
    EmptyAudioError,
    NotAudioError,
    PayloadTooLargeError,
    UndecodableAudioError,
    UnsupportedAudioError,
)

if TYPE_CHECKING:  # decoder processes do without pydantic
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
Encoded = bytes | mmap.mmap
"""Encoded content."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """The limits of accepted recordings.

    Attributes:
        max_bytes: largest encoded content.
        max_seconds: longest recording.
        max_channels: most channels.
        min_sample_rate: lowest rate, Hz.
        max_sample_rate: highest rate, Hz.
        cpu_seconds: time of the processor for a recording of no length; see `Effort`.
    """

    max_bytes: int
    max_seconds: float
    max_channels: int
    min_sample_rate: int
    max_sample_rate: int
    cpu_seconds: float

    @classmethod
    def from_settings(cls, settings: Settings) -> DecodeLimits:
        """Return the limits of the settings."""
        return cls(
            max_bytes=settings.max_upload_bytes,
            max_seconds=settings.max_audio_seconds,
            max_channels=settings.max_channels,
            min_sample_rate=settings.min_sample_rate,
            max_sample_rate=settings.max_sample_rate,
            cpu_seconds=settings.decode_cpu_seconds,
        )


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The form of a decoded waveform.

    Attributes:
        channels: 1: the mean of all channels; 2: stereo is not changed, mono is duplicated, and
            more channels are mixed as in `bandstand.audio.mixdown`.
        sample_rate: Hz; None: the recording's own.
    """

    channels: Channels = 1
    sample_rate: int | None = None


Write = Callable[[FloatArray], None]
"""Stores the next samples of one channel, shape (n,); the array is reused after the call."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The properties of a decoded recording.

    Attributes:
        sample_rate: its own rate, Hz.
        count: samples of each channel at that rate.
        sha256: hex digest of the encoded content.
        truncated: the content is damaged, or shorter than its header states.
        resample_ms: time of resampling, by the index of the output format.
    """

    sample_rate: int
    count: int
    sha256: str
    truncated: bool
    resample_ms: list[float]

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return self.count / self.sample_rate


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded recording, and its waveforms by their format."""

    recording: Recording
    waveforms: dict[OutputFormat, Waveform]


def decode(data: Encoded, limits: DecodeLimits, *, channels: Channels = 1) -> Waveform:
    """Decode the first audio stream of the content at its own rate, to mono or to two channels.

    See `decode_formats`, which also raises its errors.
    """
    wanted = OutputFormat(channels)
    return decode_formats(data, limits, (wanted,)).waveforms[wanted]


def decode_formats(
    data: Encoded, limits: DecodeLimits, wanted: Collection[OutputFormat]
) -> Decoded:
    """Decode the content once, and return a waveform for each format.

    Raises:
        BandstandError: as `decode_to`.
    """
    stored = [[_Samples() for _ in SIDES[each.channels]] for each in wanted]
    outputs: list[tuple[OutputFormat, list[Write]]] = [
        (each, [one.add for one in rows]) for each, rows in zip(wanted, stored, strict=True)
    ]
    recording = decode_to(data, limits, outputs)
    return Decoded(
        recording,
        {
            each: waveform_of(recording, each, [one.finish() for one in rows])
            for each, rows in zip(wanted, stored, strict=True)
        },
    )


def waveform_of(recording: Recording, wanted: OutputFormat, rows: list[FloatArray]) -> Waveform:
    """Return the waveform of a recording in one format, from the samples of each channel."""
    return Waveform(
        rows[0] if len(rows) == 1 else np.stack(rows),
        wanted.sample_rate or recording.sample_rate,
        recording.sha256,
        recording.truncated,
    )


def decode_to(
    data: Encoded, limits: DecodeLimits, outputs: Collection[tuple[OutputFormat, list[Write]]]
) -> Recording:
    """Decode the first audio stream of the content in blocks, and store each in every output.

    Integers are scaled by their full range (int16 / 32768). Encoder delay and padding are removed
    if the container declares them. Content that is cut off or has damaged packets is decoded as far
    as possible, and marked `truncated`.

    Args:
        data: encoded content.
        limits: the limits of accepted recordings.
        outputs: formats, each with a function for each of its channels.

    Raises:
        EmptyAudioError: there are no bytes, or no samples.
        PayloadTooLargeError: there are more bytes than the limits allow.
        NotAudioError: it is not audio, or the format is not supported.
        UnsupportedAudioError: channels or rate are outside the limits, or the rate changes.
        AudioTooLongError: it is longer than the limits allow; raised before the excess is decoded.
        NonFiniteAudioError: samples are NaN or infinite.
        UndecodableAudioError: it takes too much time for its length, or too much memory.
    """
    if not len(data):
        raise EmptyAudioError("the audio is empty: zero bytes")
    if len(data) > limits.max_bytes:
        raise PayloadTooLargeError(
            f"the audio has {len(data)} bytes; at most {limits.max_bytes} are accepted"
        )
    content = _Content(data)
    try:
        return _decode(content, data, limits, outputs)
    except MemoryError as error:  # also FFmpeg's
        raise UndecodableAudioError("the content needs too much memory to be decoded") from error
    finally:
        content.close()


def _decode(
    content: _Content,
    data: Encoded,
    limits: DecodeLimits,
    outputs: Collection[tuple[OutputFormat, list[Write]]],
) -> Recording:
    effort = Effort(limits.cpu_seconds)
    try:
        container = av.open(content, "r", options=_OPTIONS, metadata_errors="replace")
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise NotAudioError(
            f"the content is not audio that can be decoded ({SUPPORTED})"
        ) from error
    # Damaged floats may be NaN or overflow meanwhile; `ChannelMix` checks them.
    with container, np.errstate(over="ignore", invalid="ignore"):
        decoding = _Decoding(container, data, limits, effort, outputs)
        decoding.run()
        return Recording(
            decoding.sample_rate,
            decoding.count,
            hashlib.sha256(data).hexdigest(),
            decoding.is_truncated,
            [each.resample_ms for each in decoding.outputs],
        )


class _Samples:
    """Keeps the samples of one channel in an array that grows in place."""

    def __init__(self) -> None:
        self._count = 0
        self._samples: FloatArray = np.empty(0, np.float32)

    def add(self, samples: FloatArray) -> None:
        start, self._count = self._count, self._count + len(samples)
        if self._count > len(self._samples):
            # Grows by half; realloc moves pages, not bytes. No view exists after `add`.
            self._samples.resize(max(self._count, len(self._samples) * 3 // 2), refcheck=False)
        self._samples[start : self._count] = samples

    def finish(self) -> FloatArray:
        self._samples.resize(self._count, refcheck=False)
        return self._samples


class _Content:
    """Content as a file that returns -1 for an invalid seek, as FFmpeg expects, and never raises.

    PyAV would store an exception and raise it in the next decoding of this thread.
    """

    def __init__(self, data: Encoded) -> None:
        self._data = memoryview(data)
        self._position = 0

    def read(self, size: int) -> bytes:
        chunk = bytes(self._data[self._position : self._position + size])
        self._position += len(chunk)
        return chunk

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._data)}
        if whence not in base or base[whence] + offset < 0:
            return -1
        self._position = base[whence] + offset
        return self._position

    def close(self) -> None:
        self._data.release()


class _Output:
    """One output: the resamplers of its channels, made when the recording's rate is known."""

    def __init__(self, wanted: OutputFormat, writes: list[Write]) -> None:
        self.sides = SIDES[wanted.channels]
        self.resample_ms = 0.0
        self._target = wanted.sample_rate
        self._writes = writes
        self._resamplers: list[Resampler] = []

    def add(self, side: Side, sample_rate: int, samples: FloatArray) -> None:
        """Resample and store a block of one channel."""
        started = perf_counter()
        if not self._resamplers:
            target = self._target or sample_rate
            self._resamplers = [Resampler(sample_rate, target, write) for write in self._writes]
        self._resamplers[self.sides.index(side)].add(samples)
        self.resample_ms += (perf_counter() - started) * 1e3

    def finish(self) -> None:
        """Store the end of all channels."""
        started = perf_counter()
        for resampler in self._resamplers:
            resampler.finish()
        self.resample_ms += (perf_counter() - started) * 1e3


class _Decoding:
    """Decodes one container in one pass."""

    def __init__(
        self,
        container: InputContainer,
        data: Encoded,
        limits: DecodeLimits,
        effort: Effort,
        outputs: Collection[tuple[OutputFormat, list[Write]]],
    ) -> None:
        self.outputs = [_Output(wanted, writes) for wanted, writes in outputs]
        sides = {side for output in self.outputs for side in output.sides} or {"all"}
        self._mixes = [ChannelMix(side, partial(self._store, side)) for side in sorted(sides)]
        self._effort = effort
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
        return self._mixes[0].count

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
            before = self.count
            try:
                frames = packet.decode()
            except MemoryError:
                raise
            except av.FFmpegError:
                self._is_broken = True
                frames = []
            for frame in frames:
                self._append(frame)
            if not self._effort.goes_on(self.count - before, self.count / (self.sample_rate or 1)):
                self._is_broken = True
                break
        for mix in self._mixes:
            mix.flush()
        for output in self.outputs:
            output.finish()
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
        except MemoryError:
            raise
        except av.FFmpegError:
            self._is_broken = True

    def _read_length(self, first: Packet[AudioStream]) -> None:
        """Refuse content whose stated length is too long."""
        self._stated = stated_seconds(self._container, self._stream, self._data, first.pos)
        if self._stated is not None:
            self._check_length(self._stated)

    def _store(self, side: Side, block: FloatArray) -> None:
        for output in self.outputs:
            if side in output.sides:
                output.add(side, self.sample_rate, block)

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
        for mix in self._mixes:
            mix.append(frame, self._layout)

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
