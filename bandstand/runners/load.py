"""Which runtime a model gets in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from bandstand.errors import UnavailableError
from bandstand.models.card import Card
from bandstand.runners.base import Runner
from bandstand.runners.cores import available_cores, has_bf16
from bandstand.runners.host_front_end import NETWORK_FILE, HostFrontEndRunner
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
    """Load a model with the runtime that serves it best here, or with the one asked for.

    On a CPU, the front end is left to the host where the export wrote what is needed.
    By itself: OpenVINO in bf16 where the card prefers bf16 and the CPU has it (about twice as
    fast as f32 for transformers), ONNX Runtime otherwise, and on CUDA always.

    Args:
        card: what the model must be.
        model_path: the ONNX file.
        runtime: `onnxruntime`, `openvino`, or `auto`.
        precision: `f32`, `bf16` (OpenVINO only), or `auto`.
        threads: compute threads; 0: as many as this process may use at once.
        device: `cpu` or `cuda`.

    Raises:
        UnavailableError: the runtime is not installed, or cannot do what was asked here.
        ModelMismatchError: the file is missing, broken, or other than the card says.
    """
    if runtime == "triton":
        raise UnavailableError("Triton runs models in a server of its own, not in this process")
    threads = threads or available_cores()
    if precision == "auto":
        suits = card.prefers == "bf16" and has_bf16() and device == "cpu"
        precision = "bf16" if suits and _openvino_allowed(runtime) else "f32"
    elif precision == "bf16" and not has_bf16():
        raise UnavailableError("bf16 was asked for, and this CPU has neither AVX512_BF16 nor AMX")
    if runtime == "auto":
        runtime = "openvino" if precision == "bf16" else "onnxruntime"
    logger.info("%s: %s in %s, %d threads on %s", card.name, runtime, precision, threads, device)
    open_runner: Callable[[Card, Path], Runner]
    if runtime == "openvino":
        if device != "cpu":
            raise UnavailableError(f"OpenVINO was asked for on {device}; here it runs on the CPU")
        open_runner = partial(OpenVinoRunner, threads=threads, precision=precision)
    elif precision == "bf16":
        raise UnavailableError("ONNX Runtime computes in f32; bf16 needs the runtime openvino")
    else:
        open_runner = partial(OnnxRunner, threads=threads, device=device)
    if device == "cpu" and model_path.with_name(NETWORK_FILE).is_file():
        return HostFrontEndRunner(card, model_path, open_runner)
    return open_runner(card, model_path)


def _openvino_allowed(runtime: Runtime) -> bool:
    """Say whether `auto` may lead to OpenVINO; GPU installations do not have it."""
    return runtime == "openvino" or (runtime == "auto" and find_spec("openvino") is not None)
