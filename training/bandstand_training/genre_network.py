"""The genre model: a few small multilayer perceptrons and their scaler."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bandstand_training.feature_scaler import FeatureScaler

HIDDEN = (128, 64, 32)
DROPOUT = 0.3


class GenreNetwork(nn.Sequential):
    """Dense 128, 64 and 32 with ReLU, dropout after the first two, and a dense layer to logits.

    Scaled features `(n, inputs)` to logits `(n, classes)`, float32.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        first, second, third = HIDDEN
        super().__init__(
            nn.Linear(inputs, first),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(second, third),
            nn.ReLU(),
            nn.Linear(third, classes),
        )
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
                nn.init.zeros_(layer.bias)


class GenreModel(nn.Module):
    """Unscaled features `(n, inputs)` to logits `(n, classes)`, float32: what is exported.

    The logits are the mean over `members` networks that differ in their random start only.
    """

    def __init__(self, scaler: FeatureScaler, classes: int, members: int) -> None:
        super().__init__()
        self.scaler = scaler
        inputs = scaler.mean.shape[0]
        self.members = nn.ModuleList(GenreNetwork(inputs, classes) for _ in range(members))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        return self.member_logits(self.scaler(features)).mean(dim=0)

    def member_logits(self, scaled: Tensor) -> Tensor:
        """Return each network's own logits, `(members, n, classes)`, of scaled features."""
        return torch.stack([member(scaled) for member in self.members])
