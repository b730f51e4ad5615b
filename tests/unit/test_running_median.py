"""The median network gives exactly the median of every window."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bandstand.frontends.running_median import SIZE, running_median


def medians(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the medians by their definition.

    `scipy.ndimage.median_filter` 1.17 is no reference here: with two rows and many equal values it
    is wrong now and then.
    """
    padded = np.pad(samples, ((SIZE // 2, SIZE // 2), (0, 0)), mode="symmetric")
    answer: NDArray[np.float32] = np.median(sliding_window_view(padded, SIZE, axis=0), axis=-1)
    return answer


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 120),
    columns=st.integers(1, 70),
    values=st.sampled_from([2, 5, 1_000_000]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_median_is_that_of_its_window(
    rows: int, columns: int, values: int, seed: int
) -> None:
    # Few different values: ties everywhere.
    samples = np.random.default_rng(seed).integers(0, values, (rows, columns)).astype(np.float32)
    np.testing.assert_array_equal(running_median(samples), medians(samples))


def test_more_columns_than_one_chunk_holds() -> None:
    samples = np.random.default_rng(0).random((1300, 450)).astype(np.float32)
    np.testing.assert_array_equal(running_median(samples), medians(samples))
