"""Front ends as plain librosa calls, the reference for exports with a front end inside.

This module uses only the parameters of `bandstand.frontends`, so that both can be compared.
"""

from __future__ import annotations

import numpy as np

from bandstand.frontends.mel import FloatArray
from bandstand.frontends.parameters import LogMelParameters, MfccParameters


def librosa_log_mel(samples: FloatArray, parameters: LogMelParameters) -> FloatArray:
    """Return the mel spectrogram of every clip in its scale, `(n, frames, n_mels)`.

    Args:
        samples: `(n, samples)`, at the parameters' rate.
        parameters: of the front end.
    """
    return np.stack([_log_mel(clip, parameters).T for clip in samples])


def librosa_mfcc(samples: FloatArray, parameters: MfccParameters) -> FloatArray:
    """Return the coefficients of every clip, `(n, frames, n_mfcc)`, for `(n, samples)`."""
    import librosa

    return np.stack(
        [
            librosa.feature.mfcc(S=_log_mel(clip, parameters), n_mfcc=parameters.n_mfcc).T
            for clip in samples
        ]
    )


def _log_mel(clip: FloatArray, parameters: LogMelParameters) -> FloatArray:
    import librosa

    bands = librosa.feature.melspectrogram(
        y=clip,
        sr=parameters.sample_rate,
        n_fft=parameters.n_fft,
        hop_length=parameters.hop,
        n_mels=parameters.n_mels,
        fmin=parameters.low_hz,
        fmax=parameters.high_hz,
        htk=parameters.mel_scale == "htk",
        norm="slaney" if parameters.area_normalised else None,
        power=2.0 if parameters.spectrum == "power" else 1.0,
        center=parameters.padding != "none",
        pad_mode="reflect" if parameters.padding == "reflect" else "constant",
    )
    scaled: FloatArray
    if parameters.level == "linear":
        scaled = bands
    elif parameters.level == "natural_log":
        scaled = np.log(np.maximum(bands, parameters.floor))
    else:
        convert = librosa.power_to_db if parameters.spectrum == "power" else librosa.amplitude_to_db
        scaled = convert(
            bands,
            ref=np.max if parameters.reference == "max" else 1.0,
            amin=parameters.floor,
            top_db=parameters.dynamic_range_db,
        )
    return scaled
