"""Packed arrays are unpacked unchanged and without a copy; other bytes are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from bandstand.errors import MalformedRequestError
from bandstand.runners.wire import pack, unpack

ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.sampled_from(["float32", "int64", "uint8", "float16", "bool"]).flatmap(
        lambda dtype: arrays_of.arrays(
            dtype, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
        )
    ),
    max_size=4,
)


@given(ARRAYS)
def test_arrays_come_back_equal(arrays: dict[str, np.ndarray]) -> None:
    found, metadata = unpack(pack(arrays, {"card": "x", "n": [1, 2.5, None]}))
    assert metadata == {"card": "x", "n": [1, 2.5, None]}
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_reading_copies_nothing() -> None:
    block = pack({"x": np.arange(1000, dtype=np.float32)}, {})
    found, _ = unpack(block)
    assert np.shares_memory(found["x"], np.frombuffer(block, np.uint8))
    assert found["x"].ctypes.data % 4 == 0


@pytest.mark.parametrize(
    "block",
    [b"", b"\x05", b"\xff" * 8 + b"{}", pack({"x": np.ones(9)}, {})[:-100], b"\x80\x05pickle....."],
)
def test_other_bytes_are_refused(block: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        unpack(block)


def test_objects_do_not_travel() -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        pack({"x": np.array([object()])}, {})
