"""A log-mel spectrogram as the colour picture that networks for photographs were trained on.

librosa's `specshow` draws the spectrogram through matplotlib's colour map magma, from its smallest
to its largest value, low bands below; the picture is resized as Pillow does it (a triangle filter
as wide as the reduction) and its values go from -1 to 1. That the pictures of the training were
JPEG files in between is left out.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bandstand.frontends.mel import DoubleArray

COLOUR_MAP = "magma"
_SMALLEST_RANGE = 1e-6
"""A spectrogram of one value, such as silence, is drawn in the lowest colour."""


class MelPicture(nn.Module):
    """Log-mel `(n, frames, bands)` to pictures `(n, 3, size, size)`, -1 to 1."""

    colours: Tensor
    steps: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, frames: int, bands: int, size: int) -> None:
        super().__init__()
        colours = colour_table() * 2.0 - 1.0
        low_below = resizing(bands, size)[:, ::-1]
        for name, values in {
            "colours": colours[:-1],
            "steps": np.diff(colours, axis=0),
            "rows": low_below,
            "columns": resizing(frames, size).T,
        }.items():
            self.register_buffer(
                name, torch.tensor(values.copy(), dtype=torch.float32), persistent=False
            )

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return the pictures."""
        smallest = log_mel.amin(dim=(1, 2), keepdim=True)
        extent = (log_mel.amax(dim=(1, 2), keepdim=True) - smallest).clamp(min=_SMALLEST_RANGE)
        entries = len(self.colours) + 1
        # Entry i of the table is the colour in the middle of the i-th of so many equal parts.
        place = ((log_mel - smallest) / extent * entries - 0.5).clamp(0, entries - 1)
        below = place.floor().clamp(max=entries - 2)
        number = below.to(torch.int64)
        colour = self.colours[number] + self.steps[number] * (place - below)[..., None]
        picture: Tensor = self.rows @ colour.permute(0, 3, 2, 1) @ self.columns
        return picture


def colour_table() -> DoubleArray:
    """Return the colour map, `(256, 3)`, 0 to 1."""
    from matplotlib import colormaps

    table: DoubleArray = colormaps[COLOUR_MAP](np.arange(256))[:, :3]
    return table


def resizing(before: int, after: int) -> DoubleArray:
    """Return the weights that resize one axis, `(after, before)`: those of Pillow's `BILINEAR`."""
    ratio = before / after
    reach = max(ratio, 1.0)
    centres = (np.arange(after) + 0.5) * ratio
    distance = np.abs(np.arange(before) + 0.5 - centres[:, None]) / reach
    weights: DoubleArray = np.maximum(0.0, 1.0 - distance)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
