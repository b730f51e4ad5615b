"""What the peer servers do with a recording: the well-known librosa recipe, then ONNX Runtime.

This is deliberately not Bandstand's extractor. It is the code that the GTZAN feature table invites
one to write: librosa's documented calls, one after the other, with their defaults.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import librosa
import numpy as np
import onnxruntime
import scipy.special
from numpy.typing import NDArray

SAMPLE_RATE = 22_050
SECONDS = 30.0
"""The table's clips last 30 s; longer recordings are cut to that, so compare with clips of it."""
DEFAULT_MODEL = Path("model_repository/genre_features/1/model.onnx")
GENRES = (
    *("blues", "classical", "country", "disco", "hiphop"),
    *("jazz", "metal", "pop", "reggae", "rock"),
)


class UnreadableAudioError(ValueError):
    """The upload is no audio, or holds no sample."""


class GenreModel:
    """The model, loaded once; `predict` may be called from many threads."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the network is tiny; the threads go to the features
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        # librosa compiles some of its loops at first use: not at the first client's expense.
        noise = np.random.default_rng(0).normal(0.0, 0.1, 5 * SAMPLE_RATE)
        self.predict(extract(noise.astype(np.float32)))

    def predict(self, features: NDArray[np.float32]) -> dict[str, Any]:
        """Answer for one row of features, shape (57,)."""
        (logits,) = self._session.run(["logits"], {"features": features[np.newaxis]})
        scores = scipy.special.softmax(logits[0].astype(np.float64))
        return {
            "primary_genre": GENRES[int(scores.argmax())],
            "confidence": 100.0 * float(scores.max()),
            "all_scores": dict(zip(GENRES, scores.tolist(), strict=True)),
        }


def load(file: BinaryIO) -> NDArray[np.float32]:
    """Decode an upload to mono at 22.05 kHz, shape (n,).

    Raises:
        UnreadableAudioError: libsndfile cannot read it, or it is empty.
    """
    try:
        samples, _ = librosa.load(file, sr=SAMPLE_RATE, mono=True, duration=SECONDS)
    except Exception as error:  # librosa raises whatever its back end raises
        raise UnreadableAudioError(f"the file cannot be decoded: {error}") from error
    if not len(samples):
        raise UnreadableAudioError("the file holds no sample")
    return samples


def extract(
    samples: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the 57 features in the order of the table's columns, shape (57,), float32."""
    harmonic, percussive = librosa.effects.hpss(samples)
    series = [
        librosa.feature.chroma_stft(y=samples, sr=SAMPLE_RATE),
        librosa.feature.rms(y=samples),
        librosa.feature.spectral_centroid(y=samples, sr=SAMPLE_RATE),
        librosa.feature.spectral_bandwidth(y=samples, sr=SAMPLE_RATE),
        librosa.feature.spectral_rolloff(y=samples, sr=SAMPLE_RATE),
        librosa.feature.zero_crossing_rate(samples),
        harmonic,
        percussive,
    ]
    tempo, _ = librosa.beat.beat_track(y=samples, sr=SAMPLE_RATE)
    mfcc = librosa.feature.mfcc(y=samples, sr=SAMPLE_RATE, n_mfcc=20)
    features = [value for one in series for value in (one.mean(), one.var())]
    features.append(float(np.ravel(tempo)[0]))
    features += [value for one in mfcc for value in (one.mean(), one.var())]
    return np.asarray(features, dtype=np.float32)
