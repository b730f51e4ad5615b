"""Small ONNX graphs, and the cards that describe them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

from bandstand.models.card import Card

OPSET = 20
IR_VERSION = 10
LABELS = ("a", "b", "c", "d")


def card(shape: tuple[int, ...], **changes: Any) -> Card:
    """A card for an input `x` of that shape and four logits."""
    fields = {
        "name": "small",
        "task": "genre",
        "architecture": "small",
        "description": "for tests",
        "source": {"uri": "file:none", "licence": "MIT", "trained_on": "nothing"},
        "window": {"sample_rate": 16_000, "seconds": 0.1, "hop_seconds": 0.1},
        "front_end": {"kind": "none"},
        "inputs": [{"name": "x", "shape": shape}],
        "outputs": [{"name": "logits", "shape": (len(LABELS),)}],
        "labels": LABELS,
        "activation": "softmax",
    }
    return Card.model_validate(fields | changes)


def save_graph(
    path: Path,
    nodes: list[Any],
    weights: dict[str, Any],
    shape: tuple[int | str, ...],
    *,
    batch: int | str = "batch",
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """Write a graph from `x` of `(batch, *shape)` to `logits` of `(batch, 4)`."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", dtype, [batch, *shape])],
        [helper.make_tensor_value_info("logits", dtype, [batch, len(LABELS)])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    checker.check_model(model)
    save(model, path)
    return path


def weight(seed: int, *shape: int) -> Any:
    """Return random weights that keep the variance of activations."""
    scale = np.sqrt(2 / np.prod(shape[1:]))
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def mlp(path: Path, **changes: Any) -> Path:
    """Input 24, hidden 64, four logits."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2"], ["logits"], transB=1),
    ]
    weights = {"w1": weight(1, 64, 24), "w2": weight(2, len(LABELS), 64)}
    return save_graph(path, nodes, weights, (24,), **changes)


def conv(path: Path) -> Path:
    """Input 1600 samples, one strided convolution, the mean over time, four logits."""
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["c"]),
        helper.make_node("Conv", ["c", "k"], ["f"], strides=[40], kernel_shape=[80]),
        helper.make_node("Relu", ["f"], ["r"]),
        helper.make_node("ReduceMean", ["r", "two"], ["m"], keepdims=0),
        helper.make_node("Gemm", ["m", "w"], ["logits"], transB=1),
    ]
    weights = {
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "k": weight(3, 32, 1, 80),
        "w": weight(4, len(LABELS), 32),
    }
    return save_graph(path, nodes, weights, (1600,))


def through_denormals(path: Path) -> Path:
    """Input 4; of ones 0.1 by way of denormal numbers, or 0 where these are zero."""
    nodes = [
        helper.make_node("Mul", ["x", "small"], ["s"]),
        helper.make_node("Relu", ["s"], ["r"]),  # no runtime joins the factors
        helper.make_node("Mul", ["r", "smaller"], ["d"]),
        helper.make_node("Relu", ["d"], ["denormal"]),
        helper.make_node("Mul", ["denormal", "large"], ["logits"]),
    ]
    factors = {"small": 1e-20, "smaller": 1e-19, "large": 1e38}
    weights = {name: np.full(4, value, np.float32) for name, value in factors.items()}
    return save_graph(path, nodes, weights, (4,))
