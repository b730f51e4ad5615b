"""Joins two graphs: a front end exported by torch, and a network from another framework."""

from __future__ import annotations

from typing import Any

from bandstand.models.card import FRONT_END_TENSOR
from bandstand_exporters.proof import BATCH_AXIS

FRONT_END = "front_end/"
NETWORK = "network/"


def join(front_end: Any, network: Any, *, name: str, input_name: str, output_name: str) -> Any:
    """Connect a front end's only output to a network's only input.

    Args:
        front_end: an ONNX `ModelProto`, of the same operator set as `network`.
        network: an ONNX `ModelProto`; onnx checks the versions of the operator sets.
        name: of the graph.
        input_name: of the joined graph.
        output_name: of the joined graph.

    Returns:
        A checked `ModelProto`. What joins both is called `front_end`, other names inside begin with
        `front_end/` and `network/`; the first axis of input and output is `batch`.

    Raises:
        ValueError: more than one input or output, or other operator sets or shapes.
        onnx.checker.ValidationError: the result is not a valid graph.
    """
    import onnx
    from onnx import compose

    for model in (front_end, network):
        if len(model.graph.input) != 1 or len(model.graph.output) != 1:
            raise ValueError(f"{model.graph.name}: one input and one output can be joined")
    version = max(front_end.ir_version, network.ir_version)
    parts = []
    for model, prefix in ((front_end, FRONT_END), (network, NETWORK)):
        part = compose.add_prefix(model, prefix)
        part.ir_version = version
        del part.graph.value_info[:]  # shapes at the seam are called differently on its two sides
        parts.append(part)
    first, second = parts
    joined = compose.merge_models(
        first, second, io_map=[(first.graph.output[0].name, second.graph.input[0].name)]
    )
    joined.graph.name = name
    # Each part declared its operator set; quantizers want to read it once.
    versions = {declared.domain: declared for declared in first.opset_import}
    del joined.opset_import[:]
    joined.opset_import.extend(versions.values())
    (seam,) = joined.graph.value_info  # the first part's output
    _rename(joined.graph, seam, FRONT_END_TENSOR)
    _rename(joined.graph, joined.graph.input[0], input_name)
    _rename(joined.graph, joined.graph.output[0], output_name)
    for tensor in (joined.graph.input[0], joined.graph.output[0]):
        tensor.type.tensor_type.shape.dim[0].dim_param = BATCH_AXIS
    onnx.checker.check_model(joined, full_check=True)
    return joined


def _rename(graph: Any, tensor: Any, name: str) -> None:
    """Rename a tensor in its declaration and its uses."""
    old, tensor.name = tensor.name, name
    for node in graph.node:
        for names in (node.input, node.output):
            for index, used in enumerate(names):
                if used == old:
                    names[index] = name
