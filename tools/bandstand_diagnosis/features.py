"""Training features from a file, checked before use."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bandstand.errors import UnusableRequestError
from bandstand.frontends.mel import DoubleArray

MAX_CELLS = 50_000_000
"""More values than this are no clip's features: two hours of 128 bands, 50 frames a second."""
_AXES = 2
FEWEST_FRAMES, FEWEST_BANDS = 16, 4
"""Fewer values are not enough for a diagnosis."""


def load_features(path: Path) -> DoubleArray:
    """Read one clip's features from a `.npy` file: two axes, in whichever order.

    Axes of length 1 (a batch of one, a single channel) are dropped. Pickled content is never
    loaded, and sizes are checked before the values are read.

    Raises:
        UnusableRequestError: no `.npy` array of finite numbers with two axes of usable length.
        OSError: the file cannot be read.
    """
    try:
        # Mapped: a header that claims more than the file holds is found without memory for it.
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, TypeError, KeyError) as error:
        raise UnusableRequestError(
            f"{path.name} is not a .npy file of plain numbers (pickled objects are never loaded)"
        ) from error
    if not isinstance(stored, np.ndarray):
        stored.close()
        raise UnusableRequestError(f"{path.name} is an archive of arrays; save one with numpy.save")
    if stored.dtype.kind not in "fiu":
        raise UnusableRequestError(f"{path.name} holds {stored.dtype}, not real numbers")
    values = stored.squeeze()
    if values.ndim != _AXES:
        raise UnusableRequestError(
            f"{path.name} has the shape {stored.shape}; "
            "one clip's features have two axes, frames and bands"
        )
    if values.size > MAX_CELLS:
        raise UnusableRequestError(f"{path.name} has {values.size} values; one clip has fewer")
    if min(values.shape) < FEWEST_BANDS or max(values.shape) < FEWEST_FRAMES:
        raise UnusableRequestError(f"{path.name}: {values.shape} is too small for a diagnosis")
    features = np.array(values, dtype=np.float64)
    if not np.isfinite(features).all():
        raise UnusableRequestError(f"{path.name} has values that are NaN or infinite")
    if np.ptp(features) == 0:
        raise UnusableRequestError(f"{path.name} holds the same value everywhere")
    return features
