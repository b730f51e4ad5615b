"""Two graphs joined at a seam: names, axes, operator sets, and what they compute together."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from bandstand_exporters.join import join


def half(operator: str, size: int, *, opset: int = 20, ir_version: int = 9) -> Any:
    """A graph `x` to `y`, both `(some axis, size)`, of one operator on two inputs that are x."""
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"axis_of_{name}", size])
        for name in "xy"
    )
    graph = helper.make_graph([helper.make_node(operator, ["x", "x"], ["y"])], operator, [x], [y])
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )


def join_both(first: Any, second: Any) -> Any:
    return join(first, second, name="both", input_name="samples", output_name="logits")


def test_the_second_takes_what_the_first_gives() -> None:
    joined = join_both(half("Add", 3, ir_version=8), half("Mul", 3, ir_version=10))
    session = onnxruntime.InferenceSession(joined.SerializeToString())
    x = np.array([[1.0, 2.0, -3.0]], np.float32)
    (logits,) = session.run(["logits"], {"samples": x})
    np.testing.assert_array_equal(logits, (2 * x) ** 2)


def test_names_and_axes_are_those_that_runners_look_for() -> None:
    graph = (model := join_both(half("Add", 3), half("Mul", 3))).graph
    ends = [graph.input[0], graph.output[0]]
    assert [end.name for end in ends] == ["samples", "logits"]
    assert {end.type.tensor_type.shape.dim[0].dim_param for end in ends} == {"batch"}
    assert [tensor.name for tensor in graph.value_info] == ["front_end"]
    assert [opset.domain for opset in model.opset_import] == [""]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="operator set"):
        join_both(half("Add", 3, opset=18), half("Mul", 3))
    two = half("Add", 3)
    two.graph.output.append(two.graph.input[0])
    with pytest.raises(ValueError, match="one input and one output"):
        join_both(two, half("Mul", 3))
