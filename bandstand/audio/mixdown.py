"""From decoded frames of any layout to one float32 mono array."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame

from bandstand.audio.waveform import FloatArray
from bandstand.errors import NonFiniteAudioError, UnsupportedAudioError

# FFmpeg sample format -> type, full range, offset: x / range + offset is in [-1, 1], exactly as
# libsndfile scales. 24-bit audio comes as s32, shifted up.
_SAMPLES: dict[str, tuple[np.dtype[Any], float, float]] = {
    "u8": (np.dtype(np.uint8), 2.0**7, -1.0),
    "s16": (np.dtype(np.int16), 2.0**15, 0.0),
    "s32": (np.dtype(np.int32), 2.0**31, 0.0),
    "flt": (np.dtype(np.float32), 1.0, 0.0),
    "dbl": (np.dtype(np.float64), 1.0, 0.0),
}


@dataclass(frozen=True)
class FrameLayout:
    """What the samples of a frame are; usually the same from the first frame to the last.

    Attributes:
        sample_rate: Hz.
        channels: how many.
        sample_format: FFmpeg's name; one that ends in `p` keeps each channel in its own plane.
    """

    sample_rate: int
    channels: int
    sample_format: str

    @cached_property
    def is_planar(self) -> bool:
        """Each plane is one channel."""
        return self.channels == 1 or self.sample_format.endswith("p")

    @cached_property
    def scale(self) -> tuple[np.dtype[Any], np.float32, np.float32]:
        """Type of a sample; factor and offset that take the sum over channels to [-1, 1].

        Raises:
            UnsupportedAudioError: a sample format that none of the decoders in use has.
        """
        try:
            dtype, full_range, offset = _SAMPLES[self.sample_format.removesuffix("p")]
        except KeyError:
            raise UnsupportedAudioError(f"{self.sample_format} samples are not decoded") from None
        return dtype, np.float32(1 / (full_range * self.channels)), np.float32(offset)


class Mixdown:
    """Mono samples so far: frames are mixed straight into one array, which grows in place.

    Attributes:
        count: how many samples there are.
    """

    def __init__(self, capacity: int) -> None:
        self.count = 0
        self._samples: FloatArray = np.empty(max(capacity, 1), np.float32)
        self._has_floats = False

    def append(self, frame: AudioFrame, layout: FrameLayout) -> None:
        """Add the mean over the frame's channels."""
        dtype, factor, offset = layout.scale
        self._has_floats = self._has_floats or dtype.kind == "f"
        size = frame.samples
        target = self._room(size)
        if layout.is_planar:
            channels = [np.frombuffer(plane, dtype, size) for plane in frame.planes]  # type: ignore[call-overload]
        else:
            packed = np.frombuffer(frame.planes[0], dtype, size * layout.channels)  # type: ignore[call-overload]
            channels = list(packed.reshape(size, layout.channels).T)
        target[:] = channels[0]
        for channel in channels[1:]:
            target += channel
        if factor != 1:
            target *= factor
        if offset:
            target += offset

    def finish(self) -> FloatArray:
        """Return all samples, shape (n,), and end the mixdown.

        Raises:
            NonFiniteAudioError: some are NaN or infinite.
        """
        self._samples.resize(self.count, refcheck=False)
        if self._has_floats and not np.isfinite(self._samples).all():
            raise NonFiniteAudioError("the audio has samples that are NaN or infinite")
        return self._samples

    def _room(self, size: int) -> FloatArray:
        start, self.count = self.count, self.count + size
        if self.count > len(self._samples):
            # By halves; realloc moves pages, not bytes. No view outlives `append`.
            self._samples.resize(max(self.count, len(self._samples) * 3 // 2), refcheck=False)
        return self._samples[start : self.count]
