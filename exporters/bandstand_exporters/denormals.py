"""Denormal weights of a graph become zero; that the answers stay the same is proven."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bandstand.models.card import Card
from bandstand.runners.base import Array
from bandstand.runners.denormals import denormals_are_kept
from bandstand.runners.onnx import OnnxRunner
from bandstand_exporters.proof import compare
from bandstand_exporters.source_model import SourceModel

_SIGN, _SMALLEST_NORMAL = np.uint32(0x8000_0000), np.uint32(0x0080_0000)
"""In the bits of a float32: comparisons of the numbers themselves can take denormals for zero."""


def zero_denormals(model_path: Path) -> int:
    """Set the denormal float32 weights of an ONNX file to zero, in place; return their number.

    On CPUs that compute with them in microcode, some thousands make a network many times slower,
    also in runtimes that do not flush them: NVIDIA's backend on Triton has no option for it.

    Raises:
        OSError: the disk is full or not writable.
    """
    import onnx

    model = onnx.load(str(model_path))
    count = sum(_zero(tensor) for tensor in _constants(model.graph))
    if count:
        onnx.save(model, str(model_path))
    return count


def prove_zeros(
    card: Card, model_path: Path, source: SourceModel, inputs: Mapping[str, Array]
) -> None:
    """Compare a graph with its source, which computes one row with its denormal weights.

    The rest of a proof computes with zeros on both sides, since that is so much faster.

    Args:
        card: of the model.
        model_path: the graph, after `zero_denormals`.
        source: the opened checkpoint.
        inputs: real inputs; the first row is used.

    Raises:
        ModelMismatchError: farther apart than the card's tolerance: these weights do matter.
    """
    row = {name: array[:1] for name, array in inputs.items()}
    with denormals_are_kept():  # torch's threads follow the one that calls them
        wanted = source.run(row)
    found = OnnxRunner(card, model_path, threads=1).run(row)
    compare(card, found, wanted, "its source with denormal weights")


def _zero(tensor: Any) -> int:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type != TensorProto.FLOAT:
        return 0
    values = numpy_helper.to_array(tensor)
    magnitudes = np.ascontiguousarray(values).view(np.uint32) & ~_SIGN
    denormal = (magnitudes != 0) & (magnitudes < _SMALLEST_NORMAL)
    count = int(np.count_nonzero(denormal))
    if count:
        zeroed = np.where(denormal, np.float32(0), values)
        tensor.CopyFrom(numpy_helper.from_array(zeroed, tensor.name))
    return count


def _constants(graph: Any) -> Iterator[Any]:
    """Yield the tensors of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _constants(inner)
