"""A graph whose file of weights is missing, damaged or elsewhere is refused, by either runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bandstand.errors import ModelMismatchError
from bandstand.runners.load import load_runner
from bandstand_exporters.weights import FEWEST_BYTES, WEIGHTS_FILE, move_weights
from harness.small_graphs import card, mlp

RUNTIMES: tuple[Any, ...] = ("onnxruntime", "openvino")
MLP = card((24,))


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A graph in a version's folder, its large weights beside it."""
    folder = tmp_path / "small" / "1"
    folder.mkdir(parents=True)
    path = mlp(folder / "model.onnx")
    move_weights(path)
    return path


def answers(path: Path, runtime: Any) -> Any:
    x = np.random.default_rng(3).normal(size=(5, 24)).astype(np.float32)
    runner = load_runner(MLP, path, runtime=runtime, precision="f32", threads=1)
    return runner.run({"x": x})["logits"]


def refer_to(path: Path, location: str) -> None:
    """Have a graph look for its weights elsewhere."""
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())


def outside(path: Path) -> Path:
    """Move the weights out of the version's folder."""
    return path.with_name(WEIGHTS_FILE).rename(path.parents[1] / WEIGHTS_FILE)


def cut_short(path: Path) -> None:
    weights = path.with_name(WEIGHTS_FILE)
    weights.write_bytes(weights.read_bytes()[:-1])


FAULTS: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.with_name(WEIGHTS_FILE).unlink(),
    "empty": lambda path: path.with_name(WEIGHTS_FILE).write_bytes(b""),
    "a byte too short": cut_short,
    "in the folder above": lambda path: (outside(path), refer_to(path, f"../{WEIGHTS_FILE}")),
    "at an absolute path": lambda path: refer_to(path, str(outside(path))),
    "behind a link": lambda path: path.with_name(WEIGHTS_FILE).symlink_to(outside(path)),
}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_are_not_there_are_refused(graph: Path, runtime: Any, fault: str) -> None:
    FAULTS[fault](graph)
    with pytest.raises(ModelMismatchError, match=r"cannot load .*model\.onnx"):
        answers(graph, runtime)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_answers_are_the_same_bits_wherever_the_weights_lie(
    graph: Path, tmp_path: Path, runtime: Any
) -> None:
    assert graph.with_name(WEIGHTS_FILE).stat().st_size > FEWEST_BYTES
    found = answers(graph, runtime)
    np.testing.assert_array_equal(found, answers(mlp(tmp_path / "whole.onnx"), runtime))


def test_weights_are_written_anew_and_not_behind_older_ones(graph: Path) -> None:
    size = graph.with_name(WEIGHTS_FILE).stat().st_size
    move_weights(graph)
    assert graph.with_name(WEIGHTS_FILE).stat().st_size == size
