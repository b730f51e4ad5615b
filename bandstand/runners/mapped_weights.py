"""Keeps the weights of an OpenVINO model in a mapped file, so that memory has them only once.

To multiply in bfloat16, OpenVINO packs a copy of every weight and keeps the original. The pages of
a mapped file can be removed from memory; they are read again when they are needed.
"""

from __future__ import annotations

import mmap
import tempfile
from typing import Any

import numpy as np

from bandstand.runners.base import Array

_FEWEST_VALUES = 16_384
"""Smaller weights, and all vectors, stay as they are."""
_ALIGN = 64
"""Bytes of a cache line, as for OpenVINO's own weights."""
_DECOMPRESSION = "decompression_0"
"""OpenVINO's mark of a conversion that it computes in the following products, not in advance."""


class MappedWeights:
    """The mapped file; OpenVINO reads from it as long as the model lives."""

    def __init__(self, mapping: mmap.mmap) -> None:
        self._mapping = mapping

    def page_out(self) -> None:
        """Free the memory; a later read reads the file."""
        self._mapping.madvise(mmap.MADV_DONTNEED)


def map_weights(model: Any) -> MappedWeights | None:
    """Move the large weights of a model into a temporary file that has no name.

    They become float16, in half the space. The precision is enough, because float16 has three more
    significant bits than bfloat16. A weight with values too large for float16 is not moved.

    Args:
        model: an `openvino.Model`; it is changed.

    Returns:
        The mapped file, to keep as long as the model; None: there are no large weights.

    Raises:
        OSError: the file cannot be written.
    """
    constants = [operation for operation in model.get_ops() if _is_large_weight(operation)]
    if not constants:
        return None
    offsets = []
    with tempfile.TemporaryFile() as file:
        for constant in constants:
            file.write(bytes(-file.tell() % _ALIGN))
            offsets.append(file.tell())
            file.write(constant.data.astype(np.float16).tobytes())
        file.flush()
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    for constant, offset in zip(constants, offsets, strict=True):
        shape = constant.data.shape
        half = np.frombuffer(mapping, np.float16, constant.data.size, offset).reshape(shape)
        _replace(constant, half)
    model.validate_nodes_and_infer_types()
    return MappedWeights(mapping)


def _is_large_weight(operation: Any) -> bool:
    if operation.get_type_name() != "Constant":
        return False
    values: Array = operation.data
    if values.dtype != np.float32 or values.ndim == 1 or values.size < _FEWEST_VALUES:
        return False
    return bool(np.abs(values).max() <= np.finfo(np.float16).max)


def _replace(constant: Any, half: Array) -> None:
    """Replace a float32 constant by float16 values, which are not copied."""
    from openvino import Tensor, op, opset13

    stored = op.Constant(Tensor(half, shared_memory=True))
    widened = opset13.convert(stored, "f32")
    widened.get_rt_info()[_DECOMPRESSION] = True
    widened.set_friendly_name(constant.get_friendly_name())
    for consumer in list(constant.output(0).get_target_inputs()):
        consumer.replace_source_output(widened.output(0))
