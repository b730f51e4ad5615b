"""OpenVINO on the CPU, in float32, or in bfloat16 if the CPU supports it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Literal

from bandstand.errors import ModelMismatchError, UnavailableError
from bandstand.models.card import FRONT_END_TENSOR, Card
from bandstand.runners.base import Array, RunnerInfo
from bandstand.runners.checks import GraphTensor, check_batch, check_graph, own_outputs
from bandstand.runners.denormals import denormals_are_zero
from bandstand.runners.mapped_weights import map_weights
from bandstand.runners.rows import one_by_one


class OpenVinoRunner:
    """One compiled model with one stream, which uses all threads.

    An infer request is not thread-safe, and with one stream a second request would wait inside
    OpenVINO. A lock therefore admits one call at a time.
    """

    def __init__(
        self, card: Card, model_path: Path, *, threads: int, precision: Literal["f32", "bf16"]
    ) -> None:
        """Load a model and compare it with its card.

        Args:
            card: the card that the model must match.
            model_path: the ONNX file.
            threads: compute threads, at least 1.
            precision: of the computation; inputs and outputs always have the card's dtypes.

        Raises:
            UnavailableError: the package is not installed, or there is no disk space for weights.
            ModelMismatchError: the file is missing or damaged, or does not match the card.
        """
        try:
            import openvino  # takes a second; GPU installations do not have it
        except ImportError as error:
            raise UnavailableError(
                "OpenVINO is not installed: pip install 'bandstand[cpu]'"
            ) from error
        core = openvino.Core()
        # A mapped file stays in memory as a whole for as long as one of its weights is used.
        core.set_property({"ENABLE_MMAP": False})
        try:
            model = core.read_model(str(model_path))
            check_graph(card, _tensors(model.inputs), _tensors(model.outputs))
            front_end = _cut_front_end(model) if precision == "bf16" else None
            self._input_names = [port.any_name for port in model.inputs]
            self._weights = None
            if card.batch.one_by_one_on_cpu:
                # With a fixed batch of one row, OpenVINO packs weights before the first inference.
                _take_single_rows(front_end, model)
                self._weights = map_weights(model) if precision == "bf16" else None
            self._front_end = front_end and _request(core, front_end, threads, "f32")
            self._request: Any = _request(core, model, threads, precision)
            if self._weights is not None:
                self._weights.page_out()
        except OSError as error:
            raise UnavailableError(
                f"{card.name}: its weights cannot be written to {gettempdir()}: "
                f"{error.strerror or error}; free some space, or set TMPDIR to a folder with space"
            ) from error
        except RuntimeError as error:
            raise ModelMismatchError(
                f"{card.name}: OpenVINO cannot load {model_path}: {error}"
            ) from error
        self._lock = threading.Lock()
        self._card = card
        self._info = RunnerInfo("openvino", openvino.__version__, precision, threads)

    @property
    def card(self) -> Card:
        """The card that the model was compared with."""
        return self._card

    @property
    def info(self) -> RunnerInfo:
        """Runtime, version, precision, threads."""
        return self._info

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs of one batch.

        Raises:
            UnusableRequestError: the inputs do not match the card's names, shapes and dtypes.
            UnavailableError: the runner was closed.
        """
        batch = check_batch(self._card, inputs)
        with self._lock:
            if self._request is None:
                raise UnavailableError(f"{self._card.name} was closed")
            single = self._card.batch.one_by_one_on_cpu
            outputs = one_by_one(self._infer, batch) if single else self._infer(batch)
        return own_outputs(self._card, len(next(iter(batch.values()))), outputs)

    def _infer(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs; the caller holds the lock."""
        front_end_outputs: Any = {}
        if self._front_end is not None:
            with denormals_are_zero():
                front_end_outputs = self._front_end.infer(batch, share_inputs=True)
        inputs = {
            name: batch[name] if name in batch else front_end_outputs[name]
            for name in self._input_names
        }
        with denormals_are_zero():
            results = self._request.infer(inputs, share_inputs=True)  # the outputs are copied
        return {tensor.name: results[tensor.name] for tensor in self._card.outputs}

    def close(self) -> None:
        """Release the model after the call in progress."""
        with self._lock:
            self._request = self._front_end = self._weights = None


def _request(core: Any, model: Any, threads: int, precision: str) -> Any:
    """Compile a model and return the request that its calls share."""
    properties = {
        "INFERENCE_PRECISION_HINT": precision,  # the default is bf16 if the CPU supports it
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Pinned threads of several models would all use the first cores.
        "ENABLE_CPU_PINNING": False,
        "CPU_DENORMALS_OPTIMIZATION": True,  # in its own threads
    }
    with denormals_are_zero():
        return core.compile_model(model, "CPU", properties).create_infer_request()


def _take_single_rows(*models: Any) -> None:
    """Fix the batch axis at one row, in each model that is not None."""
    for model in models:
        if model is not None:
            shapes = {port: port.partial_shape for port in model.inputs}
            for shape in shapes.values():
                shape[0] = 1
            model.reshape(shapes)


def _cut_front_end(model: Any) -> Any:
    """Split a model at the end of its front end, and return the front end; None: it has none.

    The remaining model takes the front end's output as an input. The front end must run in f32: in
    bf16 samples and spectra have eight significant bits, and logarithms amplify the error, so that
    an AST's logits differ three times as much. OpenVINO has no public precision setting for single
    operators.
    """
    from openvino import Model, opset13

    computed = [op for op in model.get_ops() if op.get_type_name() != "Parameter"]
    outputs = [port for op in computed for port in op.outputs()]
    cut = next((port for port in outputs if FRONT_END_TENSOR in port.get_names()), None)
    if cut is None:
        return None
    consumers = list(cut.get_target_inputs())
    parameter = opset13.parameter(cut.get_partial_shape(), cut.get_element_type())
    parameter.output(0).set_names({FRONT_END_TENSOR})
    for consumer in consumers:
        consumer.replace_source_output(parameter.output(0))
    front_end = Model([cut], list(model.get_parameters())).clone()
    model.add_parameters([parameter])
    for unused in model.get_parameters():
        if not unused.output(0).get_target_inputs():
            model.remove_parameter(unused)
    model.validate_nodes_and_infer_types()
    return front_end


def _tensors(ports: Sequence[Any]) -> list[GraphTensor]:
    return [
        GraphTensor(
            port.any_name,
            port.element_type.to_dtype().name,
            tuple(axis.get_length() if axis.is_static else None for axis in port.partial_shape),
        )
        for port in ports
    ]
