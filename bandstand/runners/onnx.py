"""ONNX Runtime, on the CPU or a CUDA device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from bandstand.errors import ModelMismatchError, UnavailableError
from bandstand.models.card import Card
from bandstand.runners.base import Array, RunnerInfo
from bandstand.runners.checks import GraphTensor, check_batch, check_graph, own_outputs
from bandstand.runners.denormals import denormals_are_zero
from bandstand.runners.rows import one_by_one

Device = Literal["cpu", "cuda"]

PRECISION_KEY = "precision"
"""Metadata key of a model file that does not compute in f32."""

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
}


class OnnxRunner:
    """One ONNX Runtime session, which may be called from several threads."""

    def __init__(
        self, card: Card, model_path: Path, *, threads: int, device: Device = "cpu"
    ) -> None:
        """Load a model and compare it with its card.

        Args:
            card: the card that the model must match.
            model_path: the ONNX file.
            threads: compute threads, at least 1.
            device: `cuda` needs onnxruntime-gpu and a CUDA device.

        Raises:
            UnavailableError: the package is not installed, or there is no such device.
            ModelMismatchError: the file is missing or damaged, or does not match the card.
        """
        try:
            import onnxruntime  # takes a second; an optional dependency
        except ImportError as error:
            raise UnavailableError(
                "ONNX Runtime is not installed: pip install 'bandstand[cpu]' (or [gpu])"
            ) from error
        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
        if provider not in onnxruntime.get_available_providers():
            raise UnavailableError(
                f"this ONNX Runtime has no {provider}: pip install 'bandstand[gpu]'"
            )
        try:
            with denormals_are_zero():
                session = onnxruntime.InferenceSession(
                    str(model_path), _options(onnxruntime, threads), providers=[provider]
                )
        except Exception as error:  # its errors have no common base class
            raise ModelMismatchError(
                f"{card.name}: ONNX Runtime cannot load {model_path}: {error}"
            ) from error
        if session.get_providers()[0] != provider:  # it uses the CPU instead, and only logs that
            raise UnavailableError(f"ONNX Runtime could not start {provider}: see its log")
        check_graph(card, _tensors(session.get_inputs()), _tensors(session.get_outputs()))
        self._session: Any = session
        self._one_by_one = card.batch.one_by_one_on_cpu and device == "cpu"
        self._run_options = onnxruntime.RunOptions()
        # The buffers for one row of a heavy model are as large as its weights: it frees them after
        # each call. A light model keeps its buffers: to map 100 MB again takes as long as a call.
        if self._one_by_one and card.runner == "own":
            shrink = "memory.enable_memory_arena_shrinkage"
            self._run_options.add_run_config_entry(shrink, "cpu:0")
        self._card = card
        precision = session.get_modelmeta().custom_metadata_map.get(PRECISION_KEY, "f32")
        self._info = RunnerInfo("onnxruntime", onnxruntime.__version__, precision, threads, device)

    @property
    def card(self) -> Card:
        """The card that the model was compared with."""
        return self._card

    @property
    def info(self) -> RunnerInfo:
        """Runtime, version, precision, threads, device."""
        return self._info

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs of one batch.

        Raises:
            UnusableRequestError: the inputs do not match the card's names, shapes and dtypes.
            UnavailableError: the runner was closed.
        """
        session = self._session
        if session is None:
            raise UnavailableError(f"{self._card.name} was closed")
        batch = check_batch(self._card, inputs)
        names = [tensor.name for tensor in self._card.outputs]

        def compute(inputs: Mapping[str, Array]) -> dict[str, Array]:
            with denormals_are_zero():
                values = session.run(names, inputs, self._run_options)
            return dict(zip(names, values, strict=True))

        outputs = one_by_one(compute, batch) if self._one_by_one else compute(batch)
        return own_outputs(self._card, len(next(iter(batch.values()))), outputs)

    def close(self) -> None:
        """Release the session; calls in progress finish."""
        self._session = None


def _options(onnxruntime: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # only errors; failures are raised as exceptions
    # Threads that spin while they wait take CPU time from other models: a small convolution on two
    # cores used five times the CPU time, and no call was faster.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Its threads are started with this value, not with that of the thread that starts them.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


def _tensors(nodes: Sequence[Any]) -> list[GraphTensor]:
    return [
        GraphTensor(
            node.name,
            DTYPES.get(node.type, node.type),
            tuple(axis if isinstance(axis, int) else None for axis in node.shape),
        )
        for node in nodes
    ]
