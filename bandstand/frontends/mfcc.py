"""Mel-frequency cepstral coefficients as a torch module, for training and for graphs."""

from __future__ import annotations

from torch import Tensor, nn

from bandstand.frontends.dft import as_float32
from bandstand.frontends.logmel import LogMel
from bandstand.frontends.parameters import MfccParameters


class Mfcc(nn.Module):
    """Samples `(n, samples)` to coefficients `(n, frames, n_mfcc)`, both float32."""

    cosines: Tensor

    def __init__(self, parameters: MfccParameters) -> None:
        super().__init__()
        self.log_mel = LogMel(parameters)
        self.register_buffer("cosines", as_float32(parameters.cosines), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the coefficients."""
        log_mel: Tensor = self.log_mel(samples)
        return log_mel @ self.cosines
