"""Waveforms, resampling and windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Waveform:
    """Mono audio.

    Attributes:
        samples: shape (n,), float32, C-contiguous, finite, nominally in [-1, 1].
        sample_rate: Hz.
        sha256: hex digest of the encoded content it was decoded from.
        truncated: the content ended, or broke, before its own header said it would.
    """

    samples: FloatArray
    sample_rate: int
    sha256: str
    truncated: bool = False

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate
