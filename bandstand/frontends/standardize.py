"""Zero mean and unit variance of each clip as a torch module, for graphs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bandstand.frontends.parameters import StandardizeParameters


class Standardize(nn.Module):
    """Samples `(n, samples)` to samples of mean 0 and variance 1, clip by clip, float32."""

    def __init__(self, parameters: StandardizeParameters) -> None:
        super().__init__()
        self.config = parameters

    def forward(self, samples: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the standardised samples.

        Args:
            samples: `(n, samples)`.
            lengths: `(n,)`, int64, at least 1: how many samples of each row are audio. The rest
                counts for nothing and becomes 0. None: all.
        """
        if lengths is None:
            centred = samples - samples.mean(dim=1, keepdim=True)
            variance = centred.square().mean(dim=1, keepdim=True)
        else:
            positions = torch.arange(samples.shape[1], device=samples.device)
            valid = (positions < lengths[:, None]).to(samples.dtype)
            count = lengths[:, None].to(samples.dtype)
            mean = (samples * valid).sum(dim=1, keepdim=True) / count
            centred = (samples - mean) * valid
            variance = centred.square().sum(dim=1, keepdim=True) / count
        return centred / torch.sqrt(variance + self.config.epsilon)
