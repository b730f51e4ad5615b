"""A runner takes no file that its card does not describe, and no batch that the model cannot."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from bandstand.errors import ModelMismatchError, UnavailableError, UnusableRequestError
from bandstand.models.card import Card
from bandstand.runners import cores, load
from bandstand.runners.base import Runner
from bandstand.runners.cores import available_cores
from bandstand.runners.load import load_runner
from harness.small_graphs import card, mlp, save_graph, weight

RUNTIMES = ("onnxruntime", "openvino")
MLP = card((24,))


@pytest.fixture(params=RUNTIMES)
def open_model(request: pytest.FixtureRequest) -> Callable[[Card, Path], Runner]:
    return lambda model_card, path: load_runner(
        model_card, path, runtime=request.param, precision="f32", threads=1
    )


OTHER_CARDS = {
    "input name": (card((24,), inputs=[{"name": "samples", "shape": (24,)}]), "samples"),
    "output name": (card((24,), outputs=[{"name": "scores", "shape": (4,)}]), "scores"),
    "missing input": (
        card((24,), inputs=[{"name": "x", "shape": (24,)}, {"name": "n", "shape": (1,)}]),
        r"\['n', 'x'\]",
    ),
    "dtype": (card((24,), inputs=[{"name": "x", "shape": (24,), "dtype": "int64"}]), "int64"),
    "length": (card((25,)), r"\[any, 25\] in the card, \[any, 24\] in the file"),
    "rank": (card((1, 24)), r"\[any, 1, 24\] in the card, \[any, 24\] in the file"),
    "classes": (
        card((24,), labels=("a", "b"), outputs=[{"name": "logits", "shape": (2,)}]),
        r"output 'logits' is \[any, 2\] in the card, \[any, 4\] in the file",
    ),
}


@pytest.mark.parametrize("other", OTHER_CARDS)
def test_a_file_that_differs_from_its_card_is_refused(
    open_model: Callable[[Card, Path], Runner], tmp_path: Path, other: str
) -> None:
    wrong_card, words = OTHER_CARDS[other]
    with pytest.raises(ModelMismatchError, match=words):
        open_model(wrong_card, mlp(tmp_path / "m.onnx"))


def test_a_fixed_batch_axis_is_refused(
    open_model: Callable[[Card, Path], Runner], tmp_path: Path
) -> None:
    with pytest.raises(ModelMismatchError, match=r"\[any, 24\] in the card, \[1, 24\] in the file"):
        open_model(MLP, mlp(tmp_path / "m.onnx", batch=1))


def test_an_axis_that_the_file_leaves_open_takes_what_the_card_says(
    open_model: Callable[[Card, Path], Runner], tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x", "one"], ["m"], keepdims=1),
        helper.make_node("Gemm", ["m", "w"], ["logits"], transB=1),
    ]
    weights = {"one": np.array([1], np.int64), "w": weight(1, 4, 1)}
    runner = open_model(MLP, save_graph(tmp_path / "m.onnx", nodes, weights, ("samples",)))
    assert runner.run({"x": np.ones((2, 24), np.float32)})["logits"].shape == (2, 4)
    with pytest.raises(UnusableRequestError):
        runner.run({"x": np.ones((2, 25), np.float32)})


@pytest.mark.parametrize("content", [None, b"", b"\x08\x07not a model", "cut"])
def test_a_missing_or_broken_file_is_refused(
    open_model: Callable[[Card, Path], Runner], tmp_path: Path, content: bytes | str | None
) -> None:
    path = tmp_path / "m.onnx"
    if content == "cut":
        whole = mlp(path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ModelMismatchError, match=r"cannot load .*m\.onnx"):
        open_model(MLP, path)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"y": np.zeros((1, 24), np.float32)},
        {"x": np.zeros((1, 24), np.float32), "y": np.zeros((1, 24), np.float32)},
        {"x": np.zeros((0, 24), np.float32)},
        {"x": np.zeros(24, np.float32)},
        {"x": np.zeros((1, 23), np.float32)},
        {"x": np.zeros((1, 1, 24), np.float32)},
        {"x": np.zeros((1, 24), np.float64)},
        {"x": np.zeros((1, 24), np.int64)},
    ],
)
def test_a_batch_that_the_card_does_not_have_is_refused(
    open_model: Callable[[Card, Path], Runner], tmp_path: Path, inputs: dict[str, Any]
) -> None:
    runner = open_model(MLP, mlp(tmp_path / "m.onnx"))
    with pytest.raises(UnusableRequestError):
        runner.run(inputs)


def test_answers_own_their_memory_and_strided_input_is_fine(
    open_model: Callable[[Card, Path], Runner], tmp_path: Path
) -> None:
    runner = open_model(MLP, mlp(tmp_path / "m.onnx"))
    rows = np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32).T
    first = runner.run({"x": rows})["logits"]
    kept = first.copy()
    second = runner.run({"x": np.ascontiguousarray(rows[::-1])})["logits"]
    assert first.flags.owndata
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, kept)  # the second call wrote elsewhere
    np.testing.assert_allclose(second[::-1], first, rtol=1e-5, atol=1e-6)


def test_threads_that_share_a_runner_get_their_own_answers(
    open_model: Callable[[Card, Path], Runner], tmp_path: Path
) -> None:
    runner = open_model(MLP, mlp(tmp_path / "m.onnx"))
    batches = [np.full((1 + n % 3, 24), n, np.float32) for n in range(60)]
    alone = [runner.run({"x": batch})["logits"] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda batch: runner.run({"x": batch})["logits"], batches))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5)


def test_a_closed_runner_says_so(
    open_model: Callable[[Card, Path], Runner], tmp_path: Path
) -> None:
    runner = open_model(MLP, mlp(tmp_path / "m.onnx"))
    runner.close()
    with pytest.raises(UnavailableError, match="closed"):
        runner.run({"x": np.zeros((1, 24), np.float32)})


def test_float16_answers_are_widened(
    open_model: Callable[[Card, Path], Runner], tmp_path: Path
) -> None:
    path = save_graph(
        tmp_path / "m.onnx",
        [helper.make_node("Identity", ["x"], ["logits"])],
        {},
        (4,),
        dtype=TensorProto.FLOAT16,
    )
    half = card(
        (4,),
        inputs=[{"name": "x", "shape": (4,), "dtype": "float16"}],
        outputs=[{"name": "logits", "shape": (4,), "dtype": "float16"}],
    )
    answer = open_model(half, path).run({"x": np.ones((1, 4), np.float16)})["logits"]
    assert answer.dtype == np.float32


# Which runtime


@pytest.mark.parametrize(
    ("prefers", "bf16", "asked", "got"),
    [
        ("bf16", True, {}, ("openvino", "bf16")),
        ("bf16", False, {}, ("onnxruntime", "f32")),
        ("f32", True, {}, ("onnxruntime", "f32")),
        ("bf16", True, {"precision": "f32"}, ("onnxruntime", "f32")),
        ("bf16", True, {"runtime": "onnxruntime"}, ("onnxruntime", "f32")),
        ("f32", True, {"runtime": "openvino"}, ("openvino", "f32")),
        ("bf16", False, {"runtime": "openvino"}, ("openvino", "f32")),
        ("f32", True, {"precision": "bf16"}, ("openvino", "bf16")),
    ],
)
def test_the_runtime_follows_the_card_the_cpu_and_the_wish(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    prefers: str,
    bf16: bool,
    asked: dict[str, Any],
    got: tuple[str, str],
) -> None:
    monkeypatch.setattr(load, "has_bf16", lambda: bf16)
    path = mlp(tmp_path / "m.onnx")
    info = load_runner(card((24,), prefers=prefers), path, threads=1, **asked).info
    assert (info.runtime, info.precision) == got
    assert info.threads == 1


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"runtime": "onnxruntime", "precision": "bf16"}, "ONNX Runtime computes in f32"),
        ({"device": "cuda", "runtime": "onnxruntime"}, r"bandstand\[gpu\]"),
        ({"device": "cuda", "runtime": "openvino"}, "runs on the CPU"),
        ({"runtime": "triton"}, "in its own server"),
    ],
)
def test_what_cannot_be_had_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(load, "has_bf16", lambda: True)
    with pytest.raises(UnavailableError, match=words):
        load_runner(MLP, mlp(tmp_path / "m.onnx"), **asked)


def test_bf16_on_a_cpu_without_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "has_bf16", lambda: False)
    with pytest.raises(UnavailableError, match="AVX512_BF16"):
        load_runner(MLP, mlp(tmp_path / "m.onnx"), precision="bf16")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_missing_runtime_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Any
) -> None:
    monkeypatch.setitem(sys.modules, runtime, None)
    with pytest.raises(UnavailableError, match=r"pip install 'bandstand\[cpu\]'"):
        load_runner(MLP, mlp(tmp_path / "m.onnx"), runtime=runtime)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 8), ("250000 100000", 3), ("1000 100000", 1), ("9900000 100000", 8)],
)
def test_threads_follow_the_containers_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert available_cores(tmp_path / "cpu.max") == expected
    assert available_cores(tmp_path / "absent") == 8


@pytest.mark.parametrize(
    ("flags", "answer"), [("fma avx512_bf16 amx_tile", True), ("fma avx512f", False), (None, False)]
)
def test_bf16_is_read_from_the_cpus_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, answer: bool
) -> None:
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t:\n")
    monkeypatch.setattr(cores, "CPU_FLAGS", tmp_path / "cpuinfo")
    assert cores.has_bf16.__wrapped__() is answer
