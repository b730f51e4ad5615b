"""Spectrograms of some frames of a clip for many settings, with cached intermediate results.

They use the definitions of the front ends (window, bands, decibels), and two settings that cards do
not have: a window shorter than the transform, and a constant added before the logarithm.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bandstand.frontends.mel import DoubleArray, FloatArray, MelScale, mel_filter_bank
from bandstand.frontends.parameters import LogMelParameters, MfccParameters
from bandstand.frontends.stft import hann_window
from bandstand_diagnosis.timing import Clip, Timing

_FRAMES_PER_BLOCK = 512
Parameters = LogMelParameters | MfccParameters


@dataclass(frozen=True, slots=True)
class Setting:
    """Possible settings of the features.

    Attributes:
        timing: how they lie over the audio.
        parameters: of the front end; its `level` stands for linear or not, what the unit of a
            logarithm is shows only in the fit.
        window_length: samples of the window, centred in the transform's.
        added: `floor` was added to all values, not a limit for small ones.
    """

    timing: Timing
    parameters: Parameters
    window_length: int
    added: bool = False

    @property
    def frames(self) -> int:
        """Number of frames; 0 if the audio is too short for one."""
        p = self.parameters
        return max(0, p.frames(self.timing.samples)) if self.timing.samples > p.n_fft else 0


class Spectra:
    """The spectra of chosen frames of a clip."""

    def __init__(self, clip: Clip, frames: NDArray[np.int64]) -> None:
        self._clip = clip
        self._frames = frames
        self._bins: dict[tuple[object, ...], FloatArray] = {}
        self._bands: tuple[tuple[object, ...], FloatArray] | None = None

    def model(self, setting: Setting) -> NDArray[np.floating]:
        """Return the input of a fit, `(frames, bands)`: bands, their logarithms, or cepstra."""
        p = setting.parameters
        bands = self.bands(setting)
        if p.level == "linear":
            return bands
        logarithms = logarithms_of(bands, p.floor, added=setting.added)
        return cepstra(logarithms, p) if isinstance(p, MfccParameters) else logarithms

    def bands(self, setting: Setting) -> FloatArray:
        """Return power or magnitude in every band, `(frames, bands)`."""
        bank = _Bank.of(setting.parameters)
        spectrum = setting.parameters.spectrum
        key = (setting.timing, setting.window_length, setting.parameters.padding, spectrum, bank)
        if self._bands is None or self._bands[0] != key:
            bins = self._spectrum(setting)
            self._bands = (key, np.ascontiguousarray((_sparse(bank) @ bins.T).T))
        return self._bands[1]

    def _spectrum(self, setting: Setting) -> FloatArray:
        p = setting.parameters
        key = (setting.timing, p.n_fft, setting.window_length, p.padding)
        if (*key, "power") not in self._bins:
            power = self._power(setting)
            self._bins[*key, "power"], self._bins[*key, "magnitude"] = power, np.sqrt(power)
        return self._bins[*key, p.spectrum]

    def _power(self, setting: Setting) -> FloatArray:
        p, timing = setting.parameters, setting.timing
        samples = self._clip.samples(timing.sample_rate, timing.samples)
        if p.padding != "none":
            samples = np.pad(samples, p.edge, mode=p.padding)
        window = _centred_window(setting.window_length, p.n_fft)
        frames = sliding_window_view(samples, p.n_fft)
        starts = self._frames * timing.hop
        power = np.empty((len(starts), p.bins), np.float32)
        for first in range(0, len(starts), _FRAMES_PER_BLOCK):
            block = slice(first, first + _FRAMES_PER_BLOCK)
            transform = scipy.fft.rfft(frames[starts[block]] * window, axis=1, overwrite_x=True)
            power[block] = np.square(transform.real) + np.square(transform.imag)
        return power


def logarithms_of(bands: FloatArray, floor: float, *, added: bool) -> FloatArray:
    """Return natural logarithms of bands, with a floor as a lower limit or added to them."""
    return np.log(bands + np.float32(floor) if added else np.maximum(bands, np.float32(floor)))


def cepstra(logarithms: FloatArray, parameters: MfccParameters) -> DoubleArray:
    """Return cepstral coefficients of natural logarithms, `(frames, n_mfcc)`."""
    if parameters.dynamic_range_db is not None:
        span = parameters.dynamic_range_db / decibels_per_neper(parameters)
        logarithms = np.maximum(logarithms, logarithms.max() - np.float32(span))
    coefficients: DoubleArray = scipy.fft.dct(logarithms, axis=1, norm="ortho")
    return coefficients[:, : parameters.n_mfcc]


def decibels_per_neper(parameters: Parameters) -> float:
    """Return decibels of a factor of e in `spectrum`'s unit."""
    return parameters.decibels_per_decade / float(np.log(10.0))


def _centred_window(length: int, n_fft: int) -> FloatArray:
    window = np.zeros(n_fft, np.float32)
    start = (n_fft - length) // 2
    window[start : start + length] = hann_window(length)
    return window


@dataclass(frozen=True, slots=True)
class _Bank:
    sample_rate: int
    n_fft: int
    n_mels: int
    low_hz: float
    high_hz: float | None
    scale: MelScale
    area_normalised: bool

    @classmethod
    def of(cls, p: Parameters) -> _Bank:
        edges = (p.low_hz, p.high_hz)
        return cls(p.sample_rate, p.n_fft, p.n_mels, *edges, p.mel_scale, p.area_normalised)


@lru_cache(maxsize=2048)
def _sparse(bank: _Bank) -> csr_array:
    return csr_array(mel_filter_bank(**asdict(bank)))
