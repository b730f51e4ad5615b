"""One ONNX file gives the same answers in every runtime, alone or in a batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bandstand.models.card import Card
from bandstand.runners.cores import has_bf16
from bandstand.runners.load import load_runner
from bandstand.settings import Precision, Runtime
from harness.small_graphs import card, conv, mlp

GRAPHS: dict[str, tuple[Callable[[Path], Path], Card]] = {
    "mlp": (mlp, card((24,))),
    "conv": (conv, card((1600,))),
}
BF16_STEP = 2**-8
"""Relative spacing of bfloat16 numbers: 8 significant bits."""


def batch_for(model_card: Card) -> np.ndarray:
    (tensor,) = model_card.inputs
    return np.random.default_rng(7).normal(size=(9, *tensor.shape)).astype(np.float32)


@pytest.mark.parametrize("graph", GRAPHS)
def test_float32_runtimes_agree_within_the_cards_tolerance(graph: str, tmp_path: Path) -> None:
    write, model_card = GRAPHS[graph]
    path = write(tmp_path / "model.onnx")
    x = batch_for(model_card)
    reference = load_runner(model_card, path, runtime="onnxruntime", threads=2)
    other = load_runner(model_card, path, runtime="openvino", precision="f32", threads=2)
    assert reference.info.precision == other.info.precision == "f32"
    tolerance = model_card.tolerance
    np.testing.assert_allclose(
        other.run({"x": x})["logits"],
        reference.run({"x": x})["logits"],
        rtol=tolerance.relative,
        atol=tolerance.absolute,
    )


@pytest.mark.parametrize("graph", GRAPHS)
def test_bf16_stays_near_and_is_really_another_arithmetic(graph: str, tmp_path: Path) -> None:
    if not has_bf16():
        pytest.skip("this CPU does not multiply bfloat16")
    write, model_card = GRAPHS[graph]
    path = write(tmp_path / "model.onnx")
    x = batch_for(model_card)
    exact = load_runner(model_card, path, runtime="openvino", precision="f32").run({"x": x})
    near = load_runner(model_card, path, runtime="openvino", precision="bf16").run({"x": x})
    scale = np.abs(exact["logits"]).max()
    distance = np.abs(near["logits"] - exact["logits"]).max() / scale
    assert 1e-5 < distance < 4 * BF16_STEP


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_batch_is_its_rows(graph: str, runtime: str, tmp_path: Path) -> None:
    write, model_card = GRAPHS[graph]
    runner = load_runner(
        model_card, write(tmp_path / "model.onnx"), runtime=runtime, precision="f32"
    )
    x = batch_for(model_card)
    together = runner.run({"x": x})["logits"]
    alone = np.concatenate([runner.run({"x": row[None]})["logits"] for row in x])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [("onnxruntime", "f32"), ("openvino", "f32"), ("openvino", "bf16")],
)
def test_rows_one_by_one_are_in_their_order(
    runtime: Runtime, precision: Precision, tmp_path: Path
) -> None:
    if precision == "bf16" and not has_bf16():
        pytest.skip("this CPU does not multiply bfloat16")
    path = conv(tmp_path / "model.onnx")
    at_once = card((1600,))
    in_turn = card((1600,), batch={"one_by_one_on_cpu": True})
    x = batch_for(at_once)
    wanted, found = (
        load_runner(one, path, runtime=runtime, precision=precision).run({"x": x})["logits"]
        for one in (at_once, in_turn)
    )
    apart = BF16_STEP if precision == "bf16" else 1e-5
    np.testing.assert_allclose(found, wanted, rtol=0, atol=apart * np.abs(wanted).max())
    assert np.abs(np.diff(wanted, axis=0)).max(axis=1).min() > 10 * apart  # rows differ
