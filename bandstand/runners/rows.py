"""Computes the rows of a batch one after the other, for models that use all cores for one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bandstand.runners.base import Array

Compute = Callable[[Mapping[str, Array]], Mapping[str, Array]]


def one_by_one(compute: Compute, batch: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs of a batch, computed in batches of one row.

    Args:
        compute: computes one row of every output from one row of every input; it may reuse the
            memory of its outputs in the next call.
        batch: an array for each input, rows first, at least one row.
    """
    rows = len(next(iter(batch.values())))
    answers = []
    for row in range(rows):
        outputs = compute({name: array[row : row + 1] for name, array in batch.items()})
        answers.append({name: np.array(array) for name, array in outputs.items()})
    return {name: np.concatenate([one[name] for one in answers]) for name in answers[0]}
