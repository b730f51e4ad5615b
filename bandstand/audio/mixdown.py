"""Mixes decoded frames of any layout to one or two channels of float32.

One channel is the mean of all channels. For two, stereo is not changed, mono is duplicated, and
more channels are mixed by ITU-R BS.775-3, annex 4, scaled so that the result does not exceed the
loudest channel: on each side the front channel has weight 1, centre and surround channels 0.707;
low-frequency effects are left out, and channels without a known position are on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from av import AudioLayout
from av.audio.frame import AudioFrame

from bandstand.audio.waveform import FloatArray
from bandstand.errors import NonFiniteAudioError, UnsupportedAudioError

# FFmpeg sample format -> dtype, full range, offset: x / range + offset is in [-1, 1], as in
# libsndfile. 24-bit audio is decoded to s32, in the upper bits.
_SAMPLES: dict[str, tuple[np.dtype[Any], float, float]] = {
    "u8": (np.dtype(np.uint8), 2.0**7, -1.0),
    "s16": (np.dtype(np.int16), 2.0**15, 0.0),
    "s32": (np.dtype(np.int32), 2.0**31, 0.0),
    "flt": (np.dtype(np.float32), 1.0, 0.0),
    "dbl": (np.dtype(np.float64), 1.0, 0.0),
}


Side = Literal["all", "left", "right"]
SIDES: dict[int, tuple[Side, ...]] = {1: ("all",), 2: ("left", "right")}
"""The sides to mix, by the number of channels of the waveform."""

_STEREO = 2
_LEFT_FRONT, _RIGHT_FRONT = {"FL", "FLC", "WL", "DL"}, {"FR", "FRC", "WR", "DR"}
_LEFT = _LEFT_FRONT | {"SL", "BL", "TFL", "TBL", "TSL", "BFL", "SDL", "SSL"}
_RIGHT = _RIGHT_FRONT | {"SR", "BR", "TFR", "TBR", "TSR", "BFR", "SDR", "SSR"}
_EFFECTS = {"LFE", "LFE2"}
_ATTENUATED = 0.5**0.5
_BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True)
class FrameLayout:
    """The format of a frame's samples; it is usually the same for all frames.

    Attributes:
        sample_rate: Hz.
        channels: number of channels.
        sample_format: FFmpeg's name; if it ends in `p`, each channel is in its own plane.
        name: FFmpeg's name of the channel layout.
    """

    sample_rate: int
    channels: int
    sample_format: str
    name: str

    @cached_property
    def is_planar(self) -> bool:
        """Whether each channel is in its own plane."""
        return self.channels == 1 or self.sample_format.endswith("p")

    @cached_property
    def scale(self) -> tuple[np.dtype[Any], float, np.float32]:
        """The dtype of samples, and the full range and offset that scale them to [-1, 1].

        Raises:
            UnsupportedAudioError: the sample format is unknown; no decoder in use has it.
        """
        try:
            dtype, full_range, offset = _SAMPLES[self.sample_format.removesuffix("p")]
        except KeyError:
            raise UnsupportedAudioError(f"{self.sample_format} samples are not decoded") from None
        return dtype, full_range, np.float32(offset)


@lru_cache(maxsize=64)
def channel_weights(layout_name: str, channels: int, side: Side) -> tuple[tuple[int, float], ...]:
    """Return the channels to mix into one, as (index, weight).

    Args:
        layout_name: FFmpeg's name of the channel layout.
        channels: number of channels.
        side: all channels, or those of the left or right side.
    """
    everything = tuple((index, 1.0) for index in range(channels))
    if side == "all":
        return everything
    if channels <= _STEREO:
        return ((0 if side == "left" else channels - 1, 1.0),)
    try:
        places = [place.name for place in AudioLayout(layout_name).channels]
    except ValueError:  # a layout that FFmpeg does not know
        places = []
    if len(places) != channels:
        return everything
    front, other = (_LEFT_FRONT, _RIGHT) if side == "left" else (_RIGHT_FRONT, _LEFT)
    weights = tuple(
        (index, 1.0 if place in front else _ATTENUATED)
        for index, place in enumerate(places)
        if place not in other | _EFFECTS
    )
    return weights or everything


class ChannelMix:
    """Mixes frames to one channel, and passes it on in blocks, so that memory does not grow.

    Args:
        side: all channels of a frame, or those of one side.
        write: called with each block, shape (n,); the array is reused after the call.

    Attributes:
        count: number of samples so far.
    """

    def __init__(self, side: Side, write: Callable[[FloatArray], None]) -> None:
        self.count = 0
        self._side: Side = side
        self._write = write
        self._block: FloatArray = np.empty(_BLOCK_SAMPLES, np.float32)
        self._filled = 0
        self._has_floats = False

    def append(self, frame: AudioFrame, layout: FrameLayout) -> None:
        """Add the weighted mean of the frame's channels.

        Raises:
            NonFiniteAudioError: some samples are NaN or infinite.
        """
        dtype, full_range, offset = layout.scale
        self._has_floats = self._has_floats or dtype.kind == "f"
        size = frame.samples
        target = self._room(size)
        if layout.is_planar:
            channels = [np.frombuffer(plane, dtype, size) for plane in frame.planes]  # type: ignore[call-overload]
        else:
            packed = np.frombuffer(frame.planes[0], dtype, size * layout.channels)  # type: ignore[call-overload]
            channels = list(packed.reshape(size, layout.channels).T)
        weights = channel_weights(layout.name, layout.channels, self._side)
        (first, weight), *others = weights
        target[:] = channels[first]
        if weight != 1:
            target *= np.float32(weight)
        for index, weight in others:
            target += channels[index] if weight == 1 else np.float32(weight) * channels[index]
        factor = np.float32(1 / (full_range * sum(weight for _, weight in weights)))
        if factor != 1:
            target *= factor
        if offset:
            target += offset

    def flush(self) -> None:
        """Pass on what is in the block.

        Raises:
            NonFiniteAudioError: some samples are NaN or infinite.
        """
        block, self._filled = self._block[: self._filled], 0
        if self._has_floats and not np.isfinite(block).all():
            raise NonFiniteAudioError("the audio has samples that are NaN or infinite")
        if len(block):
            self._write(block)

    def _room(self, size: int) -> FloatArray:
        if self._filled + size > len(self._block):
            self.flush()
            if size > len(self._block):
                self._block = np.empty(size, np.float32)
        start, self._filled = self._filled, self._filled + size
        self.count += size
        return self._block[start : self._filled]
