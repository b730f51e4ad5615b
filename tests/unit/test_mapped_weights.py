"""All weights that are moved into a file stay the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from bandstand.errors import UnavailableError
from bandstand.runners.cores import has_bf16
from bandstand.runners.load import load_runner
from bandstand.runners.mapped_weights import map_weights
from bandstand_exporters.weights import move_weights
from harness.small_graphs import LABELS, card, mlp, save_graph, weight

WIDTH = 256
HALF_STEP = 2**-11
"""Relative spacing of float16 numbers: 11 significant bits."""


def wide(path: Path, largest: float = 1.0) -> Path:
    """Input 24, hidden 256 twice, four logits; one weight has that value."""
    square = weight(2, WIDTH, WIDTH)
    square[0, 0] = largest
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["a"], transB=1),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "w2"], ["c"], transB=1),
        helper.make_node("Tanh", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "w3"], ["logits"], transB=1),
    ]
    weights = {"w1": weight(1, WIDTH, 24), "w2": square, "w3": weight(3, len(LABELS), WIDTH)}
    return save_graph(path, nodes, weights, (24,))


def answers(model: Any) -> Any:
    """What a model says of nine rows in float32."""
    import openvino

    x = np.random.default_rng(7).normal(size=(9, 24)).astype(np.float32)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled({"x": x})["logits"]


def read(path: Path) -> Any:
    import openvino

    return openvino.Core().read_model(str(path))


def test_what_was_paged_out_is_read_again(tmp_path: Path) -> None:
    path = wide(tmp_path / "model.onnx")
    model = read(path)
    mapped = map_weights(model)
    assert mapped is not None
    before = answers(model)
    mapped.page_out()
    np.testing.assert_array_equal(answers(model), before)
    exact = answers(read(path))
    assert 0 < np.abs(before - exact).max() < 4 * HALF_STEP * np.abs(exact).max()


def test_values_beyond_float16_stay_as_they_are(tmp_path: Path) -> None:
    model = read(wide(tmp_path / "model.onnx", largest=1e5))
    assert map_weights(model) is None


def test_a_small_model_has_nothing_to_move(tmp_path: Path) -> None:
    assert map_weights(read(mlp(tmp_path / "model.onnx"))) is None


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_file_of_weights_is_let_go_once_they_are_read(tmp_path: Path, precision: Any) -> None:
    if precision == "bf16" and not has_bf16():
        pytest.skip("this CPU does not multiply bfloat16")
    path = wide(tmp_path / "model.onnx")
    weights = move_weights(path)
    heavy = card((24,), batch={"one_by_one_on_cpu": True})
    runner = load_runner(heavy, path, runtime="openvino", precision=precision)
    assert runner.run({"x": np.ones((1, 24), np.float32)})["logits"].any()
    # A mapping of it would keep all float32 weights in memory beside those that were packed.
    assert str(weights) not in Path("/proc/self/maps").read_text()


def test_no_space_for_weights_is_said_and_how_to_get_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_bf16():
        pytest.skip("this CPU does not multiply bfloat16")
    path = wide(tmp_path / "model.onnx")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    heavy = card((24,), batch={"one_by_one_on_cpu": True})
    with pytest.raises(UnavailableError, match="TMPDIR"):
        load_runner(heavy, path, runtime="openvino", precision="bf16")
