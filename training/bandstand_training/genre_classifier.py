"""A genre checkpoint in use from Python, without a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from bandstand.errors import UnusableRequestError
from bandstand_client.contract.models import Quality
from bandstand_training.checkpoint import Checkpoint, load_checkpoint
from bandstand_training.fit import logits_of

Features = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One clip's genre; `probabilities` of all labels, adding up to 1."""

    label: str
    confidence: float
    probabilities: dict[str, float]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Metadata of a checkpoint and its file.

    Attributes:
        parameters: number of weights fitted by gradient descent, without the scaler's.
        size_bytes: of the file.
    """

    name: str
    parameters: int
    size_bytes: int
    labels: tuple[str, ...]
    feature_names: tuple[str, ...]
    quality: tuple[Quality, ...]


class GenreClassifier:
    """Features of clips to genres.

    Args:
        path: a checkpoint that `save_checkpoint` wrote.

    Raises:
        CheckpointError: see `load_checkpoint`.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._checkpoint: Checkpoint = load_checkpoint(self._path)
        self._size = self._path.stat().st_size

    def predict(self, features: Features) -> Prediction:
        """Return the genre of one clip, features `(features,)` in the order of `info()`.

        Raises:
            UnusableRequestError: another shape, or values that are not finite.
        """
        return self.predict_batch(np.asarray(features)[np.newaxis])[0]

    def predict_batch(self, features: Features) -> list[Prediction]:
        """Return the genre of each clip, features `(n, features)`; n may be 0.

        Raises:
            UnusableRequestError: another shape, or values that are not finite.
        """
        rows = np.asarray(features)
        metadata = self._checkpoint.metadata
        if rows.ndim != 2 or rows.shape[1] != len(metadata.feature_names):  # noqa: PLR2004
            raise UnusableRequestError(
                f"{len(metadata.feature_names)} features a clip are needed, not {rows.shape}"
            )
        if not np.isfinite(rows).all():
            raise UnusableRequestError("a feature is not finite")
        scores = softmax(logits_of(self._checkpoint.model, rows).astype(np.float64), axis=1)
        return [self._prediction(row) for row in scores]

    def top_k(self, features: Features, k: int = 3) -> list[tuple[str, float]]:
        """Return the k most likely genres of one clip with their probabilities, best first.

        Raises:
            UnusableRequestError: k is not between 1 and the number of labels, or see `predict`.
        """
        probabilities = self.predict(features).probabilities
        if not 1 <= k <= len(probabilities):
            raise UnusableRequestError(f"top_k is 1 to {len(probabilities)}, not {k}")
        return sorted(probabilities.items(), key=lambda item: -item[1])[:k]

    def info(self) -> ModelInfo:
        """Return name with version, sizes, labels, features and measured quality."""
        metadata = self._checkpoint.metadata
        return ModelInfo(
            name=self._path.stem,
            parameters=sum(p.numel() for p in self._checkpoint.model.parameters()),
            size_bytes=self._size,
            labels=metadata.labels,
            feature_names=metadata.feature_names,
            quality=metadata.quality,
        )

    def _prediction(self, scores: NDArray[np.float64]) -> Prediction:
        labels = self._checkpoint.metadata.labels
        best = int(scores.argmax())
        return Prediction(
            labels[best], float(scores[best]), dict(zip(labels, scores.tolist(), strict=True))
        )
