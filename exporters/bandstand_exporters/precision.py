"""Smaller precision for a proven graph, which is proven again with a larger tolerance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bandstand.models.precision import WeightPrecision

if TYPE_CHECKING:
    from bandstand.models.card import Card

LARGEST_CHANGE = 0.10
"""Largest change of a logit, divided by the largest logit; every row must keep its best label."""


def lower(model_path: Path, precision: WeightPrecision) -> None:
    """Rewrite a graph in a smaller precision, in place; its front end stays in float32.

    `int8` quantises the weights of matrix products, and what they are multiplied with when the
    graph runs: by one scale for the whole batch, so that rows change with their neighbours a
    little. `fp16` computes in float16 behind the front end. Inputs and outputs stay float32.
    """
    import onnx

    from bandstand.runners.onnx import PRECISION_KEY

    model = onnx.load(str(model_path))
    if precision == "int8":
        model = _int8(model, model_path)
    elif precision == "fp16":
        model = _fp16(model)
    onnx.helper.set_model_props(model, {PRECISION_KEY: precision})
    onnx.save(model, str(model_path))


def lowered_card(card: Card, precision: WeightPrecision, largest_logit: float) -> Card:
    """Return the card with the tolerance of a model of smaller precision.

    Args:
        card: the model's.
        precision: of the graph; `fp32` is held to the card's own tolerance.
        largest_logit: largest absolute value of the first output on the examples.
    """
    if precision == "fp32":
        return card
    allowed = {"absolute": LARGEST_CHANGE * largest_logit, "relative": 0.0}
    return card.model_copy(update={"tolerance": card.tolerance.model_copy(update=allowed)})


def front_end_nodes(model: Any) -> list[str]:
    """Return the names of a front end's nodes; none where the graph has no front end.

    They make the tensor `front_end`, or are called so where two graphs were joined.
    """
    from bandstand.models.card import FRONT_END_TENSOR
    from bandstand_exporters.join import FRONT_END

    makers = {name: node for node in model.graph.node for name in node.output}
    found = {n.name: None for n in model.graph.node if n.name.startswith(FRONT_END)}
    waiting = [FRONT_END_TENSOR]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in found:
            found[node.name] = None
            waiting += node.input
    return list(found)


def _int8(model: Any, model_path: Path) -> Any:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    left_out = front_end_nodes(model)
    del model.graph.value_info[:]  # the quantiser's types contradict what stands there
    quantize_dynamic(
        model,
        model_path,
        op_types_to_quantize=["MatMul", "Gemm"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        nodes_to_exclude=left_out,
    )
    return onnx.load(str(model_path))


def _fp16(model: Any) -> Any:
    """Convert what is behind the front end, which is taken out for that and put back.

    The converter can leave nodes out by itself, but then brings the input of the first ones to
    float16 and back.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    graph = model.graph
    left_out = set(front_end_nodes(model))
    front_end = [node for node in graph.node if node.name in left_out]
    network = [node for node in graph.node if node.name not in left_out]
    used = {name for node in network for name in node.input}
    seam = {name for node in front_end for name in node.output} & used
    types = [info for info in graph.value_info if info.name in seam]
    constants = [tensor for tensor in graph.initializer if tensor.name not in used]
    for tensor in constants:
        graph.initializer.remove(tensor)
    _replace(graph.node, network)
    _replace(graph.value_info, [])
    inputs = list(graph.input)
    graph.input.extend(types)
    half = convert_float_to_float16(model, keep_io_types=True)
    _replace(half.graph.input, inputs)
    _replace(half.graph.node, [*front_end, *half.graph.node])
    half.graph.initializer.extend(constants)
    return half


def _replace(repeated: Any, entries: list[Any]) -> None:
    """Give a repeated field other entries; some of them may be its own."""
    copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
    del repeated[:]
    repeated.extend(copies)
