"""The axis of time, and the rates and hops that give the number of frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from bandstand.audio.waveform import Waveform, resample
from bandstand.frontends.host import log_mel
from bandstand.frontends.mel import DoubleArray, FloatArray
from bandstand.frontends.parameters import LogMelParameters
from bandstand.models.card import Window
from bandstand_diagnosis.compare import correlation

USUAL_RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
USUAL_N_FFT = (256, 400, 512, 800, 1024, 1200, 2048, 4096)
USUAL_HOPS = (
    *(64, 80, 96, 100, 110, 128, 160, 200, 220, 221, 240, 256, 300, 320, 330, 400, 410, 441, 480),
    *(512, 551, 552, 600, 640, 661, 662, 735, 800, 882, 960, 1024, 1102, 1103, 1200, 1323, 2048),
)
_MOST_UNUSUAL_HOPS = 6
_MOST_TIMINGS = 6
_MOST_BANDS = 256
_LOUDNESS_AGREES = 0.6
_NOT_CENTRED_SECONDS = 0.04
_ENVELOPE_HOP_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Timing:
    """A possible timing of the features in the audio.

    Attributes:
        sample_rate: Hz.
        hop: samples from frame to frame.
        samples: number of the audio's samples, from its start, that the features cover.
        frames_first: the features are `(frames, bands)`, not `(bands, frames)`.
        exact: the number of frames is exactly this timing's; otherwise the features end earlier.
    """

    sample_rate: int
    hop: int
    samples: int
    frames_first: bool
    exact: bool


class Clip:
    """A recording at any rate, from its start, cut or filled up with zeros."""

    def __init__(self, waveform: Waveform) -> None:
        self.waveform = waveform
        self._at: dict[int, FloatArray] = {}

    def samples(self, sample_rate: int, count: int | None = None) -> FloatArray:
        """Return the first samples at a rate (Hz); None: all of them."""
        if sample_rate not in self._at:
            self._at[sample_rate] = resample(self.waveform, sample_rate).samples
        samples = self._at[sample_rate]
        if count is None:
            return samples
        return np.pad(samples[:count], (0, max(0, count - len(samples))))

    def length(self, sample_rate: int) -> int:
        """Return the number of samples at a rate, without resampling."""
        return int(np.ceil(len(self.waveform.samples) * (sample_rate / self.waveform.sample_rate)))


def find_timings(
    features: DoubleArray, clip: Clip, window: Window, *, hop: int, n_fft: int, cepstral: bool
) -> tuple[list[Timing], list[Timing]]:
    """Return the ways to lay features over a clip: likely ones, and those to try when these fail.

    Likely are usual rates and hops that give exactly as many frames. Of the rest, unusual hops and
    features that end before the audio does, those whose frames are as loud as the audio is there.

    Args:
        features: two axes, in whichever order.
        clip: the recording.
        window: the card's; features may have been made of one window instead of all the audio.
        hop: the card's, which may be an unusual one.
        n_fft: the card's, likewise.
        cepstral: the first coefficient tells the loudness, not the mean over bands.
    """
    agreement = _LoudnessAgreement(clip.waveform)
    usual = {hop, *USUAL_HOPS}
    likely: list[tuple[float, int, Timing]] = []
    others: list[tuple[float, int, Timing]] = []
    for index, timing in enumerate(
        _possible((features.shape[0], features.shape[1]), clip, window, hop, n_fft)
    ):
        oriented = features if timing.frames_first else features.T
        loudness = oriented[:, 0] if cepstral else oriented.mean(axis=1)
        alike = agreement(loudness, timing)
        if timing.exact and timing.hop in usual:
            likely.append((-alike, index, timing))
        elif alike > _LOUDNESS_AGREES:
            others.append((-alike, index, timing))
    first, then = sorted(likely)[:_MOST_TIMINGS], sorted(others)[:_MOST_TIMINGS]
    return [timing for *_, timing in first], [timing for *_, timing in then]


def _possible(
    shape: tuple[int, int], clip: Clip, window: Window, hop: int, n_fft: int
) -> Iterator[Timing]:
    own_rate = clip.waveform.sample_rate
    rates = {window.sample_rate, *(rate for rate in USUAL_RATES if rate <= own_rate)}
    hops, n_ffts = {hop, *USUAL_HOPS}, {n_fft, *USUAL_N_FFT}
    for frames_first in (True, False):
        frames, bands = shape if frames_first else shape[::-1]
        if bands > _MOST_BANDS:
            continue
        for rate in sorted(rates):
            whole = clip.length(rate)
            unusual = _hops_between(frames, whole) if rate == window.sample_rate else set()
            for samples in {whole, round(window.seconds * rate)}:
                for each in hops | unusual:
                    exact = _may_give(frames, samples, each, n_ffts)
                    if exact or (samples == whole and 1 + whole // each > frames):
                        yield Timing(rate, each, samples, frames_first, exact)


def _may_give(frames: int, samples: int, hop: int, n_ffts: set[int]) -> bool:
    """Whether a hop gives a number of frames, with the ends padded or not."""
    spans = (samples, *(samples - n_fft for n_fft in n_ffts if n_fft <= samples))
    return any(1 + span // hop == frames for span in spans)


def _hops_between(frames: int, samples: int) -> set[int]:
    """Return every hop that gives a number of centred frames, where these are few."""
    hops = range(samples // frames + 1, samples // max(1, frames - 1) + 1)
    return set(hops) if len(hops) <= _MOST_UNUSUAL_HOPS else set()


class _LoudnessAgreement:
    """Correlates ranks of loudness, so that what scale the features have does not matter."""

    def __init__(self, waveform: Waveform) -> None:
        rate = waveform.sample_rate
        hop = max(1, round(_ENVELOPE_HOP_SECONDS * rate))
        parameters = LogMelParameters(sample_rate=rate, n_fft=1024, hop=hop, n_mels=40)
        decibels = log_mel(waveform.samples[None], parameters)[0]
        self._seconds_a_frame = hop / rate
        # The mean of logarithms is what log features have; of linear ones, energy is nearer.
        self._loudness = (decibels.mean(axis=1), np.exp(decibels / 10).sum(axis=1))

    def __call__(self, loudness: DoubleArray, timing: Timing) -> float:
        """Compare frames' loudness, `(frames,)`, with the audio's where a timing puts them."""
        ranks = rankdata(loudness)
        seconds = np.arange(len(loudness)) * timing.hop / timing.sample_rate
        agreements = []
        for shift in (0.0, _NOT_CENTRED_SECONDS):
            places = np.round((seconds + shift) / self._seconds_a_frame).astype(np.int64)
            for own in self._loudness:
                there = own[np.minimum(places, len(own) - 1)]
                agreements.append(correlation(ranks, rankdata(there)))
        return max(agreements)
