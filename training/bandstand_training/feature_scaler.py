"""The scaler of features; it is part of the model, so the graph contains it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CLIP = 4.0
"""Standard deviations at which features are clipped."""
INDIFFERENT_SCALE = 0.5
"""Scale of the directions in which classes do not differ; the others have 1."""
SMALLEST = 1e-10
"""Smaller values count as this before the logarithm; the clipping limits them too."""


class FeatureScaler(nn.Module):
    """Features `(n, features)` to network inputs of the same shape, both float32.

    Take the logarithm of variances and levels, which range over decades; standardise; clip; rotate
    and scale so that the covariance within classes is the identity, with the directions in which
    classes differ first (Fisher's discriminants); clip again.
    """

    logged: Tensor
    mean: Tensor
    scale: Tensor
    turn: Tensor
    centre: Tensor

    def __init__(self, features: int) -> None:
        """Make a scaler that only clips; `fit_scaler` makes one from data."""
        super().__init__()
        self.register_buffer("logged", torch.zeros(features, dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("turn", torch.eye(features))
        self.register_buffer("centre", torch.zeros(features))

    def forward(self, features: Tensor) -> Tensor:
        """Return the network's inputs."""
        standard = ((self._level(features) - self.mean) / self.scale).clamp(-CLIP, CLIP)
        return (standard @ self.turn - self.centre).clamp(-CLIP, CLIP)

    def _level(self, features: Tensor) -> Tensor:
        return torch.where(self.logged, features.clamp(min=SMALLEST).log(), features)


def fit_scaler(
    features: NDArray[np.float64], labels: NDArray[np.int64], names: Sequence[str]
) -> FeatureScaler:
    """Fit a scaler to the rows that a model is trained on.

    Args:
        features: `(n, features)`.
        labels: `(n,)`, the classes.
        names: of the features; they show which are variances and levels.
    """
    logged = np.array([name.endswith("_var") or name == "rms_mean" for name in names])
    level = np.where(logged, np.log(np.maximum(features, SMALLEST)), features)
    mean, scale = level.mean(axis=0), level.std(axis=0)
    scale[scale == 0] = 1.0  # a constant feature stays at zero
    standard = np.clip((level - mean) / scale, -CLIP, CLIP)
    turn = _discriminants(standard, labels)
    scaler = FeatureScaler(len(names))
    fitted = {"mean": mean, "scale": scale, "turn": turn, "centre": (standard @ turn).mean(axis=0)}
    scaler.load_state_dict(
        {
            "logged": torch.from_numpy(logged),
            **{name: torch.from_numpy(value).float() for name, value in fitted.items()},
        }
    )
    return scaler


def _discriminants(standard: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the matrix `(features, features)` that rotates and scales.

    The covariance within classes is shrunk (Ledoit and Wolf 2004), since there are few rows.
    """
    from sklearn.covariance import ledoit_wolf

    classes = np.unique(labels)
    means = np.stack([standard[labels == k].mean(axis=0) for k in classes])
    within = standard - means[np.searchsorted(classes, labels)]
    covariance, _ = ledoit_wolf(within, assume_centered=True)
    variances, axes = np.linalg.eigh(covariance)
    # Classes of one row have no covariance.
    variances = np.maximum(variances, np.finfo(np.float64).eps)
    whiten = (axes / np.sqrt(variances)) @ axes.T
    centred = means - means.mean(axis=0)
    _, _, directions = np.linalg.svd(centred @ whiten, full_matrices=True)
    turn: NDArray[np.float64] = whiten @ directions.T
    turn[:, len(classes) - 1 :] *= INDIFFERENT_SCALE
    return turn
