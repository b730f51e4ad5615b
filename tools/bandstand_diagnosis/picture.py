"""Training and serving features side by side, as a PNG or in the format of the suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bandstand.errors import UnusableRequestError
from bandstand.frontends.mel import DoubleArray
from bandstand_diagnosis.compare import on_grid
from bandstand_diagnosis.report import Diagnosis

_INCHES_WIDE, _INCHES_A_ROW, _DOTS_PER_INCH = 13.0, 3.4, 110
_SHOWN_SHARE = 99.5
"""Per cent of the differences that lie within the colour scale."""


def check_can_draw() -> None:
    """Check, before any work, that pictures can be drawn.

    Raises:
        UnusableRequestError: matplotlib is not installed.
    """
    try:
        import matplotlib as _  # noqa: F401
    except ImportError as error:
        raise UnusableRequestError(
            "pictures need matplotlib: pip install 'bandstand[diagnose]'"
        ) from error


def draw(diagnosis: Diagnosis, path: Path) -> None:
    """Write the picture: one row for the card; one more for the best settings, if they differ.

    A row shows the training features, the other features (interpolated to their shape if it
    differs), and the difference. The first two have scales of their own; the difference is in the
    unit of the training features.

    Raises:
        UnusableRequestError: matplotlib is missing, or writes no such format.
        OSError: the file cannot be written.
    """
    check_can_draw()
    from matplotlib.figure import Figure

    training, serving, explained = diagnosis.spectrograms
    rows = [(f"card {diagnosis.card}", np.asarray(serving, dtype=np.float64))]
    if diagnosis.verdict != "card_explains":
        rows.append(("best settings found", explained))
    figure = Figure(
        figsize=(_INCHES_WIDE, _INCHES_A_ROW * len(rows)), dpi=_DOTS_PER_INCH, layout="constrained"
    )
    all_axes = figure.subplots(len(rows), 3, squeeze=False)
    for axes, (title, other) in zip(all_axes, rows, strict=True):
        _spectrogram(figure, axes[0], "training features", training)
        _spectrogram(figure, axes[1], title, other)
        _difference(figure, axes[2], training, other)
    try:
        figure.savefig(path)
    except ValueError as error:
        raise UnusableRequestError(f"no picture can be written to {path.name}: {error}") from error


def _spectrogram(figure: Any, axes: Any, title: str, values: DoubleArray) -> None:
    image = axes.imshow(values.T, origin="lower", aspect="auto", cmap="magma")
    axes.set_title(f"{title}: {values.shape[0]} x {values.shape[1]}", fontsize=10)
    axes.set_xlabel("frame")
    axes.set_ylabel("band")
    figure.colorbar(image, ax=axes)


def _difference(figure: Any, axes: Any, training: DoubleArray, other: DoubleArray) -> None:
    left = training - on_grid(other, (training.shape[0], training.shape[1]))
    # Without a difference the picture is empty: float noise is not amplified.
    reach = max(float(np.percentile(np.abs(left), _SHOWN_SHARE)), 1e-3 * float(training.std()))
    image = axes.imshow(
        left.T, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-reach, vmax=reach
    )
    axes.set_title("training - this", fontsize=10)
    axes.set_xlabel("frame")
    figure.colorbar(image, ax=axes)
