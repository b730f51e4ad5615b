"""Selects the runtime of a model, and loads it in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from bandstand.errors import UnavailableError
from bandstand.models.card import Card
from bandstand.models.installed import NETWORK_FILE
from bandstand.runners.base import Runner
from bandstand.runners.cores import available_cores, has_bf16
from bandstand.runners.onnx import Device, OnnxRunner
from bandstand.runners.openvino import OpenVinoRunner
from bandstand.settings import Precision, Runtime

logger = logging.getLogger(__name__)


def load_runner(
    card: Card,
    model_path: Path,
    *,
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    threads: int = 0,
    device: Device = "cpu",
) -> Runner:
    """Load a model with the given runtime, or with the fastest one on this machine.

    `auto` selects OpenVINO in bf16 if the card prefers bf16 and the CPU has it (about twice as fast
    as f32 for transformers), else ONNX Runtime; on CUDA always ONNX Runtime. On a CPU, the front
    end runs on the host if the export wrote the network without it.

    Args:
        card: the card that the model must match.
        model_path: the ONNX file.
        runtime: `onnxruntime`, `openvino`, or `auto`.
        precision: `f32`, `bf16` (OpenVINO only), or `auto`.
        threads: compute threads; 0: `available_cores`.
        device: `cpu` or `cuda`.

    Raises:
        UnavailableError: the runtime is not installed, or does not support the precision or device.
        ModelMismatchError: the file is missing or damaged, or does not match the card.
    """
    if runtime == "triton":
        raise UnavailableError(
            "the runtime triton runs models in its own server, not in this process"
        )
    threads = threads or available_cores()
    if precision == "auto":
        suits = card.prefers == "bf16" and has_bf16() and device == "cpu"
        precision = "bf16" if suits and _openvino_allowed(runtime) else "f32"
    elif precision == "bf16" and not has_bf16():
        raise UnavailableError(
            "the precision bf16 needs AVX512_BF16 or AMX, which this CPU does not have"
        )
    if runtime == "auto":
        runtime = "openvino" if precision == "bf16" else "onnxruntime"
    logger.info("%s: %s in %s, %d threads on %s", card.name, runtime, precision, threads, device)
    open_runner: Callable[[Card, Path], Runner]
    if runtime == "openvino":
        if device != "cpu":
            raise UnavailableError(f"the runtime openvino runs on the CPU, not on {device}")
        open_runner = partial(OpenVinoRunner, threads=threads, precision=precision)
    elif precision == "bf16":
        raise UnavailableError("ONNX Runtime computes in f32; bf16 needs the runtime openvino")
    else:
        open_runner = partial(OnnxRunner, threads=threads, device=device)
    if device == "cpu" and model_path.with_name(NETWORK_FILE).is_file():
        # Here, because most processes need no front ends, and scipy takes long to import.
        from bandstand.runners.host_front_end import HostFrontEndRunner

        return HostFrontEndRunner(card, model_path, open_runner)
    return open_runner(card, model_path)


def _openvino_allowed(runtime: Runtime) -> bool:
    """Return whether `auto` may select OpenVINO, which GPU installations do not have."""
    return runtime == "openvino" or (runtime == "auto" and find_spec("openvino") is not None)
