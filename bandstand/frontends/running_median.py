"""Exact running medians by a shared merge network of vectorised minima and maxima.

The medians of 16 neighbouring windows of 31 share 16 elements. These are sorted once; then the
windows are halved again and again, and each half merges in the sorted elements that all of its
windows have in common, keeping only what can still become a median. Sorted runs are shared by all
neighbours. That takes about 30 minima and maxima for a median, each over thousands of contiguous
values at once, where a rank filter that moves along single elements branches at every step.
(Related: Adams, Fast median filters using separable sorting networks, SIGGRAPH 2021.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
_Sorted = list[FloatArray]

_RADIUS = 15
SIZE = 2 * _RADIUS + 1
"""Length of the window: one less than a power of two, which makes all runs powers of two."""
_GROUP = _RADIUS + 1
"""Windows that share one sorted core."""
_CHUNK_VALUES = 16_384
"""Values of one vector: a few dozen of them are alive at once and shall fit into the L2 cache."""


def running_median(values: FloatArray) -> FloatArray:
    """Return the medians of the 31 values around each, along the first axis.

    Beyond the ends the values are mirrored, the last one included (`scipy.ndimage`'s "reflect").

    Args:
        values: `(n, m)`, finite.

    Returns:
        `(n, m)`, equal to `scipy.ndimage.median_filter(values, size=(31, 1))`.
    """
    n, m = values.shape
    groups = -(-n // _GROUP)
    # The input of lane l in block b is the padded value b * 16 + l; windows reach two blocks on.
    padded = np.pad(np.arange(n), (_RADIUS, (groups + 2) * _GROUP - n - _RADIUS), mode="symmetric")
    lanes = padded.reshape(-1, _GROUP).T
    medians = np.empty((n, m), dtype=np.float32)
    width = max(1, _CHUNK_VALUES // groups)
    for start in range(0, m, width):
        columns = slice(start, start + width)
        network = _Network(values[:, columns][lanes], groups)
        for offset, median in enumerate(network.medians()):
            rows = medians[offset::_GROUP, columns]
            rows[:] = median[: len(rows)]
    return medians


class _Network:
    """The medians of all groups of one chunk; `lanes` is `(16, groups + 2, width)`."""

    def __init__(self, lanes: FloatArray, groups: int) -> None:
        self._lanes = lanes
        self._groups = groups
        self._runs: dict[tuple[int, int], _Sorted] = {}

    def medians(self) -> _Sorted:
        """Return, for each of the 16 windows of a group, its median in all groups."""
        return self._split(self._run(_RADIUS, _GROUP), 0, _GROUP)

    def _split(self, core: _Sorted, first: int, count: int) -> _Sorted:
        """Return the medians of `count` windows from `first` on, given their sorted core."""
        if count == 1:
            return core
        half = count // 2
        before = self._run(first + half - 1, half)
        after = self._run(first + SIZE, half)
        return [
            *self._split(_middle(core, before), first, half),
            *self._split(_middle(core, after), first + half, half),
        ]

    def _run(self, start: int, length: int) -> _Sorted:
        """Return inputs `start` to `start + length - 1` of every group, sorted."""
        block, lane = divmod(start, _GROUP)
        run = self._shared_run(lane, length)
        return [values[block : block + self._groups] for values in run]

    def _shared_run(self, lane: int, length: int) -> _Sorted:
        """Sort `length` inputs from a lane on, in as many blocks as there are."""
        if length == 1:
            return [self._lanes[lane]]
        if (lane, length) not in self._runs:
            half = length // 2
            block, middle = divmod(lane + half, _GROUP)
            first = self._shared_run(lane, half)
            second = [values[block:] for values in self._shared_run(middle, half)]
            blocks = min(len(first[0]), len(second[0]))
            self._runs[lane, length] = _merge(
                [values[:blocks] for values in first], [values[:blocks] for values in second]
            )
        return self._runs[lane, length]


def _merge(a: _Sorted, b: _Sorted) -> _Sorted:
    return _sort_bitonic(a + b[::-1])


def _sort_bitonic(run: _Sorted) -> _Sorted:
    """Sort a run that first rises and then falls (Batcher, 1968); its length is a power of two."""
    if len(run) == 1:
        return run
    half = len(run) // 2
    pairs = list(zip(run[:half], run[half:], strict=True))
    low = [np.minimum(a, b) for a, b in pairs]
    high = [np.maximum(a, b) for a, b in pairs]
    return _sort_bitonic(low) + _sort_bitonic(high)


def _middle(core: _Sorted, extra: _Sorted) -> _Sorted:
    """Return the middle third, sorted, of a core and an extra run of half its length.

    The largest third of all is among the core's upper half and the extra run, so the smaller ones
    of these pairs stay; the smallest third leaves in the same way.
    """
    third = len(extra)
    stay = [np.minimum(a, b) for a, b in zip(core[third:], extra[::-1], strict=True)]
    stay = _sort_bitonic(stay)
    stay = [np.maximum(a, b) for a, b in zip(core[:third], stay[::-1], strict=True)]
    return _sort_bitonic(stay)
