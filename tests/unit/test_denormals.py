"""A model computes with zeros instead of denormal numbers, and nothing else in the process does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bandstand.runners.base import Runner
from bandstand.runners.denormals import denormals_are_kept, denormals_are_zero
from bandstand.runners.load import load_runner
from harness.small_graphs import LABELS, card, through_denormals

CARD = card((len(LABELS),))
ONES = {"x": np.ones((1, len(LABELS)), np.float32)}


def computes_denormals() -> bool:
    """Whether numpy has denormal results in this thread."""
    small = np.full(64, 1e-20, np.float32)
    return bool((small * small.dtype.type(1e-20) > 0).all())


@pytest.fixture
def fresh_thread() -> Iterator[ThreadPoolExecutor]:
    """A thread that was started while denormal numbers were kept."""
    with denormals_are_kept(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(computes_denormals).result()
        yield pool


@pytest.fixture(params=["onnxruntime", "openvino"])
def open_model(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], Runner]:
    path = through_denormals(tmp_path / "model.onnx")
    return lambda threads: load_runner(
        CARD, path, runtime=request.param, precision="f32", threads=threads
    )


def test_the_switch_belongs_to_a_block_and_a_thread(fresh_thread: ThreadPoolExecutor) -> None:
    with denormals_are_zero():
        assert not computes_denormals()
        assert fresh_thread.submit(computes_denormals).result()
        with denormals_are_kept():
            assert computes_denormals()
        assert not computes_denormals()
    assert computes_denormals()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_computes_with_zeros_in_whatever_thread_calls_it(
    open_model: Callable[[int], Runner], fresh_thread: ThreadPoolExecutor, threads: int
) -> None:
    runner = open_model(threads)
    elsewhere = fresh_thread.submit(runner.run, ONES).result()
    for outputs in (elsewhere, runner.run(ONES)):
        np.testing.assert_array_equal(outputs["logits"], np.zeros((1, len(LABELS))))


def test_loading_and_calling_leave_the_arithmetic_of_features_as_it_is(
    open_model: Callable[[int], Runner], fresh_thread: ThreadPoolExecutor
) -> None:
    def all_of_it() -> bool:
        runner = open_model(2)
        after_loading = computes_denormals()
        runner.run(ONES)
        return after_loading and computes_denormals()

    assert fresh_thread.submit(all_of_it).result()
