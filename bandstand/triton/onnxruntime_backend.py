"""A Python replacement of Triton's native onnxruntime backend: the same rules, on the CPU.

Triton does not stack tensors for a Python-based backend. It passes the requests of a dynamic batch;
this module stacks them, computes them in one call, and splits the outputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from bandstand.models.installed import MODEL_FILE
from bandstand.runners.base import Array
from bandstand.runners.checks import GraphTensor
from bandstand.runners.cores import available_cores
from bandstand.runners.denormals import denormals_are_zero
from bandstand.runners.rows import one_by_one
from bandstand.triton.load_rules import ONE_BY_ONE, TYPES, refusal
from bandstand.triton.stub import pb_utils

Batch = dict[str, Array]

# `optimization.graph.level` of a config, as the native backend reads it.
_LEVELS = {-1: "ORT_ENABLE_BASIC", 1: "ORT_ENABLE_EXTENDED", 2: "ORT_DISABLE_ALL"}


class TritonPythonModel:
    """One instance of one model."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the model and compare it with its config."""
        config = json.loads(args["model_config"])
        path = Path(pb_utils.get_model_dir()) / (config.get("default_model_filename") or MODEL_FILE)
        try:
            with denormals_are_zero():
                session = onnxruntime.InferenceSession(
                    str(path), _options(config), providers=["CPUExecutionProvider"]
                )
        except Exception as error:  # its errors share no base
            raise pb_utils.TritonModelException(f"onnx runtime error: {error}") from error
        inputs, outputs = _tensors(session.get_inputs()), _tensors(session.get_outputs())
        why_not = refusal(config, inputs, outputs)
        if why_not is not None:
            raise pb_utils.TritonModelException(why_not)
        self._session = session
        self._inputs = [tensor.name for tensor in inputs]
        self._outputs = [tensor.name for tensor in outputs]
        self._batched = config.get("max_batch_size", 0) > 0
        self._one_by_one = self._batched and ONE_BY_ONE in _parameters(config)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests of one batch; separately if their shapes differ."""
        batches = [self._read(request) for request in requests]
        outcomes: list[Batch | Exception]
        try:
            outcomes = self._together(batches)
        except Exception:  # one request is at fault; the others shall get their answers
            outcomes = [self._alone(batch) for batch in batches]
        return [
            self._response(request, outcome)
            for request, outcome in zip(requests, outcomes, strict=True)
        ]

    def finalize(self) -> None:
        """Release the model."""
        del self._session

    def _read(self, request: Any) -> Batch:
        tensors = (pb_utils.get_input_tensor_by_name(request, name) for name in self._inputs)
        return {tensor.name(): tensor.as_numpy() for tensor in tensors if tensor is not None}

    def _together(self, batches: Sequence[Batch]) -> list[Batch | Exception]:
        if len(batches) == 1 or not self._batched:
            return [self._alone(batch) for batch in batches]
        stacked = {
            name: np.concatenate([batch[name] for batch in batches]) for name in self._inputs
        }
        computed = self._run(stacked)
        ends = np.cumsum([len(batch[self._inputs[0]]) for batch in batches])[:-1]
        parts = {name: np.split(array, ends) for name, array in computed.items()}
        return [{name: parts[name][i] for name in parts} for i in range(len(batches))]

    def _alone(self, batch: Batch) -> Batch | Exception:
        try:
            return self._run(batch)
        except Exception as error:
            return error

    def _run(self, batch: Batch) -> Batch:
        return one_by_one(self._compute, batch) if self._one_by_one else self._compute(batch)

    def _compute(self, batch: Mapping[str, Array]) -> Batch:
        with denormals_are_zero():
            values = self._session.run(self._outputs, dict(batch))
        return dict(zip(self._outputs, values, strict=True))

    def _response(self, request: Any, outcome: Batch | Exception) -> Any:
        if isinstance(outcome, Exception):
            error = pb_utils.TritonError(f"onnx runtime error: {outcome}")
            return pb_utils.InferenceResponse(error=error)
        wanted = request.requested_output_names()
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, array) for name, array in outcome.items() if name in wanted]
        )


def _options(config: Mapping[str, Any]) -> Any:
    """Return the session's options: the native backend's, but threads do not spin.

    And denormal numbers are zero, for which the native backend has no parameter.
    """
    parameters = _parameters(config)
    options = onnxruntime.SessionOptions()
    threads = int(parameters.get("intra_op_thread_count", 0)) or available_cores()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", 0)) or 1
    level = ((config.get("optimization") or {}).get("graph") or {}).get("level", 0)
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = getattr(levels, _LEVELS.get(int(level), "ORT_ENABLE_ALL"))
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


def _parameters(config: Mapping[str, Any]) -> dict[str, str]:
    return {name: v["string_value"] for name, v in (config.get("parameters") or {}).items()}


def _tensors(nodes: Sequence[Any]) -> list[GraphTensor]:
    return [
        GraphTensor(
            node.name,
            TYPES.get(node.type, node.type),
            tuple(axis if isinstance(axis, int) and axis >= 0 else None for axis in node.shape),
        )
        for node in nodes
    ]
