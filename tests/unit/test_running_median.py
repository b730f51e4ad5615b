"""The median network gives exactly the medians of a rank filter."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from bandstand.frontends.running_median import SIZE, running_median


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 120),
    columns=st.integers(1, 70),
    values=st.sampled_from([2, 5, 1_000_000]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_rank_filter(rows: int, columns: int, values: int, seed: int) -> None:
    # Few different values: ties everywhere.
    samples = np.random.default_rng(seed).integers(0, values, (rows, columns)).astype(np.float32)
    expected = median_filter(samples, size=(SIZE, 1), mode="reflect")
    np.testing.assert_array_equal(running_median(samples), expected)


def test_more_columns_than_one_chunk_holds() -> None:
    samples = np.random.default_rng(0).random((1300, 450)).astype(np.float32)
    expected = median_filter(samples, size=(SIZE, 1), mode="reflect")
    np.testing.assert_array_equal(running_median(samples), expected)
