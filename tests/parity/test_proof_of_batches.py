"""A graph whose rows depend on the other rows of a batch is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from bandstand.errors import ModelMismatchError
from bandstand.runners.base import Array
from bandstand_exporters.proof import prove
from bandstand_exporters.source_model import Examples
from harness.small_graphs import LABELS, card, save_graph

SIZE = len(LABELS)


@dataclass
class Doubling:
    """A source that doubles each row."""

    labels: tuple[str, ...] = LABELS
    framework: str = "numpy"

    def examples(self) -> Examples:
        random = np.random.default_rng(6)
        return Examples({"x": random.normal(size=(9, SIZE)).astype(np.float32)}, "noise")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"logits": 2 * inputs["x"]}

    def write_onnx(self, path: Path) -> None:
        """Add the mean of the batch to each row: the same as doubling where a row is alone."""
        nodes = [
            helper.make_node("ReduceMean", ["x", "first"], ["mean"], keepdims=1),
            helper.make_node("Add", ["x", "mean"], ["logits"]),
        ]
        save_graph(path, nodes, {"first": np.array([0], np.int64)}, (SIZE,))


@pytest.mark.parametrize("one_by_one", [False, True])
def test_rows_that_hear_their_neighbours_are_refused(one_by_one: bool, tmp_path: Path) -> None:
    source, path = Doubling(), tmp_path / "model.onnx"
    source.write_onnx(path)
    small = card((SIZE,), batch={"one_by_one_on_cpu": one_by_one})
    with pytest.raises(ModelMismatchError, match="its source at batch 3"):
        prove(small, path, source, source.examples().inputs)
