"""Cuts a waveform into windows, by hop or at onsets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandstand.audio.waveform import FloatArray, Waveform
from bandstand.errors import AudioTooShortError, NoOnsetError
from bandstand.frontends.onsets import detect_onsets
from bandstand.models.card import HopWindow, OnsetWindow, Window

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a recording.

    Attributes:
        batch: shape (n, length) for mono, (n, channels, length) for more, float32; samples outside
            the recording are zero.
        spans: shape (n, 2), int64; the part of each window that is not padding, as first sample
            and end (exclusive).
        starts_seconds: shape (n,), float32; the start of each window, or for windows at onsets,
            the onset.
    """

    batch: FloatArray
    spans: Indices
    starts_seconds: FloatArray

    @property
    def coverage(self) -> FloatArray:
        """Shape (n,), float32; the share of each window that is not padding, in (0, 1]."""
        length = self.batch.shape[-1]
        return np.asarray((self.spans[:, 1] - self.spans[:, 0]) / length, np.float32)


def cut_windows(waveform: Waveform, window: Window) -> Windows:
    """Cut a waveform into windows of a model's length; there is at least one.

    By hop, windows start every `hop_seconds` until one reaches the end; no further window starts
    after that. At onsets, each window starts `before_seconds`
    before its onset.

    Raises:
        AudioTooShortError: it is shorter than `minimum_seconds`, or has no samples.
        NoOnsetError: the windows are at onsets, and there is no onset.
        ValueError: rate or number of channels differ from the window's.
    """
    if waveform.sample_rate != window.sample_rate:
        raise ValueError(f"{waveform.sample_rate} Hz for a window of {window.sample_rate} Hz")
    if waveform.channels != window.channels:
        raise ValueError(f"{waveform.channels} channels for a window of {window.channels}")
    total = waveform.samples.shape[-1]
    if total == 0 or total < round(window.minimum_seconds * window.sample_rate):
        raise AudioTooShortError(
            f"the audio is {waveform.duration_seconds:.2f} s long; "
            f"it must be at least {window.minimum_seconds:g} s"
        )
    if isinstance(window, OnsetWindow):
        onsets = _onsets(waveform)
        starts_seconds = (onsets / window.sample_rate).astype(np.float32)
        return _cut(waveform, window, onsets - window.before_samples, starts_seconds)
    starts = _by_hop(total, window)
    # By the card's hop, not samples by rate: a hop may not be a whole number of samples.
    starts_seconds = np.arange(len(starts), dtype=np.float32) * window.hop_seconds
    return _cut(waveform, window, starts, starts_seconds)


def _by_hop(total: int, window: HopWindow) -> Indices:
    until_covered = 1 + max(0, math.ceil((total - window.samples) / window.hop_samples))
    # If the hop is longer than the window, the recording can end between two windows.
    count = min(until_covered, math.ceil(total / window.hop_samples))
    return np.arange(count) * window.hop_samples


def _onsets(waveform: Waveform) -> Indices:
    """Return the onsets of the mean over channels, in samples, without those after the end."""
    samples = waveform.samples
    mono = samples if samples.ndim == 1 else samples.mean(axis=0)
    onsets = detect_onsets(mono, sample_rate=waveform.sample_rate)
    onsets = onsets[onsets < len(mono)]
    if not len(onsets):
        raise NoOnsetError("no onset was found in the audio")
    return onsets


def _cut(
    waveform: Waveform, window: Window, starts: Indices, starts_seconds: FloatArray
) -> Windows:
    samples, length = waveform.samples, window.samples
    first = np.maximum(-starts, 0)
    last = np.minimum(samples.shape[-1] - starts, length)
    batch = np.zeros((len(starts), *samples.shape[:-1], length), np.float32)
    for row, start, a, b in zip(batch, starts, first, last, strict=True):
        row[..., a:b] = samples[..., start + a : start + b]
    return Windows(batch, np.stack([first, last], axis=1), starts_seconds)
