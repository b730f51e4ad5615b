"""The log-mel, MFCC and Kaldi front ends on the host: with an FFT instead of matrix products.

On a CPU this is the faster form of the same definition. A runner uses it with a graph without the
front end; it needs neither torch nor librosa.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from scipy.sparse import csr_array

from bandstand.frontends.mel import DoubleArray, FloatArray, apply_filter_bank, power_to_db
from bandstand.frontends.parameters import FbankParameters, LogMelParameters, MfccParameters
from bandstand.frontends.stft import FRAMES_PER_BLOCK, hann_window

_FRAMES_AT_ONCE = FRAMES_PER_BLOCK // 2
"""A frame in float64 takes twice the cache of float32."""


def log_mel(samples: FloatArray, parameters: LogMelParameters) -> FloatArray:
    """Return what `logmel.LogMel` returns: `(n, frames, n_mels)` for `(n, samples)`."""
    bank = csr_array(parameters.filter_bank)  # once: for a short clip it is most of the work
    return np.stack([_one_log_mel(clip, bank, parameters) for clip in samples])


def mfcc(samples: FloatArray, parameters: MfccParameters) -> FloatArray:
    """Return what `mfcc.Mfcc` returns: `(n, frames, n_mfcc)` for `(n, samples)`."""
    coefficients = scipy.fft.dct(log_mel(samples, parameters), axis=2, norm="ortho")
    return np.ascontiguousarray(coefficients[:, :, : parameters.n_mfcc])


def fbank(samples: FloatArray, parameters: FbankParameters) -> FloatArray:
    """Return what `fbank.Fbank` returns without lengths: `(n, frames, n_mels)` for `(n, samples)`.

    In float64 up to the result: bands 90 dB below their frame are within 1e-6 of transformers'
    `ASTFeatureExtractor`, which float32 cannot do (docs/decisions/0006-parity-bounds.md).
    """
    bank = csr_array(parameters.filter_bank.astype(np.float64))
    padding = (0 - parameters.mean) / (2 * parameters.std)
    energies = np.full(
        (len(samples), parameters.frames, parameters.n_mels), padding, dtype=np.float32
    )
    for clip, row in zip(samples, energies, strict=True):
        for start, power in _kaldi_spectra(clip, parameters):
            logarithms = np.log(np.maximum((bank @ power.T).T, parameters.floor))
            standardised = (logarithms - parameters.mean) / (2 * parameters.std)
            row[start : start + len(power)] = standardised
    return energies


def _kaldi_spectra(
    clip: FloatArray, parameters: FbankParameters
) -> Iterator[tuple[int, DoubleArray]]:
    """Yield the first frame's number and the power `(at most _FRAMES_AT_ONCE, bins)` of a block.

    Pre-emphasis subtracts a share of a frame's first sample from itself, as Kaldi does.
    """
    covered = clip[: parameters.samples]
    frames = sliding_window_view(covered, parameters.frame_length)[:: parameters.hop]
    window = np.hanning(parameters.frame_length)
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        block = frames[start : start + _FRAMES_AT_ONCE].astype(np.float64)
        block -= block.mean(axis=1, keepdims=True)
        before = np.concatenate([block[:, :1], block[:, :-1]], axis=1)
        block -= parameters.preemphasis * before
        block *= window
        transform = scipy.fft.rfft(block, parameters.n_fft, axis=1)
        yield start, np.square(transform.real) + np.square(transform.imag)


def _one_log_mel(clip: FloatArray, bank: csr_array, parameters: LogMelParameters) -> FloatArray:
    # Block by block: the spectra of 30 s are 5 MB, more than the cache.
    blocks = [apply_filter_bank(block, bank) for block in _spectra(clip, parameters)]
    bands: FloatArray = np.concatenate(blocks)
    if parameters.level == "linear":
        return bands
    if parameters.level == "natural_log":
        return np.log(np.maximum(bands, parameters.floor))
    power, floor = bands, parameters.floor
    if parameters.spectrum == "magnitude":
        power, floor = np.square(bands), floor**2
    return power_to_db(
        power,
        reference=float(power.max()) if parameters.reference == "max" else 1.0,
        floor=floor,
        dynamic_range=parameters.dynamic_range_db,
    )


def _spectra(clip: FloatArray, parameters: LogMelParameters) -> Iterator[FloatArray]:
    """Yield power or magnitude of the frames, a block `(at most _FRAMES_AT_ONCE, bins)` at a time.

    The transform is in float64, as librosa's: 4 ms more for 30 s, and every band is within 2e-5 dB
    of librosa's.
    """
    if parameters.padding != "none":
        clip = np.pad(clip, parameters.edge, mode=parameters.padding)
    frames = sliding_window_view(clip, parameters.n_fft)[:: parameters.hop]
    window = hann_window(parameters.n_fft)
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        windowed = frames[start : start + _FRAMES_AT_ONCE] * window
        transform = scipy.fft.rfft(windowed, axis=1, overwrite_x=True).astype(np.complex64)
        power = np.square(transform.real) + np.square(transform.imag)
        yield np.sqrt(power) if parameters.spectrum == "magnitude" else power
