"""Typed errors survive Triton's messages; models load here where they load natively."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bandstand.errors import BandstandError
from bandstand.runners.checks import GraphTensor
from bandstand.triton.load_rules import refusal
from bandstand.triton.refusals import from_message, to_message, triton_code

CODES = {"INVALID_ARG", "NOT_FOUND", "UNAVAILABLE", "INTERNAL", "UNSUPPORTED"}
GRAPH = [GraphTensor("x", "TYPE_FP32", (None, 24))]
LOGITS = [GraphTensor("logits", "TYPE_FP32", (None, 4))]


@pytest.mark.parametrize("error_type", sorted(BandstandError.registry))
def test_an_error_survives_its_message(error_type: str) -> None:
    error = BandstandError.registry[error_type]("two\nlines [415 not_audio] of it")
    rebuilt = from_message(f"in ensemble 'x', {to_message(error)}")
    assert type(rebuilt) is type(error)
    assert rebuilt.message == error.message
    assert triton_code(error) in CODES


def test_a_message_of_tritons_own_is_no_error_of_ours() -> None:
    assert from_message("[request id: 7] unexpected shape for input 'x'") is None


def config(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "x", "data_type": "TYPE_FP32", "dims": ["24"]}
    logits = {"name": "logits", "data_type": "TYPE_FP32", "dims": ["4"]}
    return {"name": "m", "max_batch_size": 8, "input": [tensor], "output": [logits]} | changes


def slot(name: str, dims: list[str], data_type: str = "TYPE_FP32", **more: Any) -> list[Any]:
    return [{"name": name, "data_type": data_type, "dims": dims, **more}]


def test_what_fits_is_loaded() -> None:
    assert refusal(config(), GRAPH, LOGITS) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input": slot("y", ["24"])}, "unexpected inference input 'y'"),
        ({"input": slot("x", ["24"]) + slot("y", ["1"])}, "expects 2 inputs, model provides 1"),
        ({"input": slot("x", ["23"])}, r"shape \[-1, 23\]"),
        ({"input": slot("x", ["24", "1"])}, "model expects 2 dimensions"),
        ({"input": slot("x", ["24"], "TYPE_FP16")}, "expects datatype TYPE_FP16"),
        ({"input": slot("x", ["24"], allow_ragged_batch=True)}, "ragged"),
        ({"output": slot("probabilities", ["4"])}, "unexpected inference output"),
        ({"output": slot("logits", ["-1"])}, r"shape \[-1, -1\]"),
        ({"max_batch_size": 0}, r"specifies 1 dimensions"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], words: str) -> None:
    why_not = refusal(config(**changes), GRAPH, LOGITS)
    assert why_not is not None
    assert re.search(words, why_not)


def test_an_axis_that_the_graph_leaves_open_takes_what_the_config_says() -> None:
    open_input = [GraphTensor("x", "TYPE_FP32", (None, None))]
    open_output = [GraphTensor("logits", "TYPE_FP32", (None, None))]
    assert refusal(config(), open_input, LOGITS) is None
    assert refusal(config(), GRAPH, open_output) is not None


def test_a_fixed_batch_axis_is_refused() -> None:
    fixed = [GraphTensor("x", "TYPE_FP32", (1, 24))]
    why_not = refusal(config(), fixed, LOGITS)
    assert why_not is not None
    assert "the first dimension must be -1" in why_not
