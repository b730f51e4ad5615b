"""A real Triton server for tests: started as `bandstand triton` does, on free ports, and stopped.

Its repository is a copy: the embedded model, and a small graph in the place of `genre_mfcc_cnn`,
which takes windows of samples.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from pydantic import SecretStr
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from bandstand.errors import BandstandError
from bandstand.models.card import Card
from bandstand.models.installed import MODEL_FILE
from bandstand.models.repository import ModelRepository
from bandstand.settings import Settings, get_settings
from bandstand.triton.refusals import from_message
from bandstand.triton.server import ServerOptions, TritonServer, running_server
from bandstand_client.triton_control import GRPC_HEADER
from harness import PROJECT_ROOT
from harness.cards import get_card
from harness.serving import free_port
from harness.small_graphs import IR_VERSION, OPSET, weight

EMBEDDED = "genre_features"
WAVEFORM_MODEL = "genre_mfcc_cnn"
ADMIN_KEY = "administrator of the tests"


def embedded_repository(root: Path) -> ModelRepository:
    """Return a repository of its own with the embedded model in it."""
    versions = PROJECT_ROOT / "model_repository" / EMBEDDED / "1"
    shutil.copytree(versions, root / EMBEDDED / "1")
    return ModelRepository(root)


def install_waveform_model(repository: ModelRepository, seed: int = 1) -> int:
    """Install a small graph as `genre_mfcc_cnn`; another seed, other answers."""
    card = get_card(WAVEFORM_MODEL)
    return repository.install(card, {MODEL_FILE: waveform_graph(card, seed)})


def waveform_graph(card: Card, seed: int = 1, *, scale: float = 1.0) -> bytes:
    """Return a graph with the inputs and outputs of a card that takes samples.

    Args:
        card: which.
        seed: of its weights.
        scale: of its logits; NaN and infinity come through.
    """
    (samples,), (logits,) = card.inputs, card.outputs
    nodes = [
        helper.make_node("Unsqueeze", [samples.name, "one"], ["c"]),
        helper.make_node("Conv", ["c", "kernel"], ["f"], strides=[200], kernel_shape=[400]),
        helper.make_node("Relu", ["f"], ["r"]),
        helper.make_node("ReduceMean", ["r", "two"], ["m"], keepdims=0),
        helper.make_node("Gemm", ["m", "w"], ["g"], transB=1),
        helper.make_node("Mul", ["g", "scale"], [logits.name]),
    ]
    weights = {
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "kernel": weight(seed, 16, 1, 400),
        "w": 20 * weight(seed + 1, *logits.shape, 16),
        "scale": np.array(scale, np.float32),
    }
    return graph(
        nodes,
        weights,
        (samples.name, TensorProto.FLOAT, ["n", *samples.shape]),
        (logits.name, TensorProto.FLOAT, ["n", *logits.shape]),
    )


Value = tuple[str, int, Sequence[int | str]]


def graph(nodes: list[Any], weights: dict[str, Any], given: Value, answered: Value) -> bytes:
    """Return an ONNX file of one input and one output: each name, type, shape."""
    content = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(*given)],
        [helper.make_tensor_value_info(*answered)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(
        content, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    encoded: bytes = model.SerializeToString()
    return encoded


def control_headers(server: TritonServer) -> dict[str, str]:
    """Return what a gRPC call has to send to change the server's models."""
    return {GRPC_HEADER: server.control_key}


def write_graph(path: Path, encoded: bytes) -> None:
    """Put an ONNX file where Triton looks for it."""
    path.parent.mkdir(parents=True)
    path.write_bytes(encoded)


@contextmanager
def triton_serving(repository: ModelRepository, **options: Any) -> Iterator[TritonServer]:
    """Run a server of this repository on free ports until the block ends, and kill it.

    Its administrator's key is `ADMIN_KEY`.

    Ending it gently takes seconds, and has tests of its own.
    """
    ports = {name: free_port() for name in ("http_port", "grpc_port", "metrics_port")}
    settings = get_settings().model_copy(update={"admin_key": SecretStr(ADMIN_KEY)})
    options_of_it = ServerOptions(repository=repository.root, **ports, **options)
    with killed_at_the_end(options_of_it, settings) as server:
        yield server


@contextmanager
def killed_at_the_end(
    options: ServerOptions, settings: Settings | None = None
) -> Iterator[TritonServer]:
    """Run a server until the block ends; nothing of it is left."""
    with running_server(options, settings=settings) as server:
        try:
            yield server
        finally:
            server.process.kill()


@contextmanager
def halted(server: TritonServer) -> Iterator[None]:
    """Have the server stand still: it takes connections, and answers nothing."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        # The signal stops one thread after the other; one that still runs would answer.
        threads = Path(f"/proc/{server.process.pid}/task")
        while any(_state(thread) != "T" for thread in threads.iterdir()):
            time.sleep(0.01)
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


def _state(thread: Path) -> str:
    """Return the letter that stands behind a thread's name, which may hold anything."""
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


def bytes_input(name: str, rows: Sequence[bytes], shape: Sequence[int]) -> grpc.InferInput:
    """Return a BYTES input of that shape."""
    array = np.array(rows, dtype=np.object_).reshape(tuple(shape))
    tensor = grpc.InferInput(name, list(shape), "BYTES")
    tensor.set_data_from_numpy(array)
    return tensor


class AudioClient:
    """Asks the models that take encoded audio, over gRPC."""

    def __init__(self, address: str) -> None:
        self.grpc = grpc.InferenceServerClient(address)

    def ask(self, model: str, *audio: bytes, **options: Any) -> list[dict[str, Any]]:
        """Return the answers, a recording each.

        Raises:
            BandstandError: the refusal, rebuilt.
            InferenceServerException: an error that is none of Bandstand's.
        """
        shape = [len(audio), 1]
        inputs = [bytes_input("audio", audio, shape)]
        if options:
            encoded = json.dumps(options).encode()
            inputs.append(bytes_input("options", [encoded] * len(audio), shape))
        answers = self.infer(model, inputs).as_numpy("answer")
        assert answers.shape == (len(audio), 1)
        return [json.loads(answer) for answer in answers[:, 0]]

    def infer(self, model: str, inputs: list[grpc.InferInput]) -> grpc.InferResult:
        """Ask any model; raises as `ask`."""
        try:
            return self.grpc.infer(model, inputs)
        except InferenceServerException as error:
            typed = from_message(error.message())
            if typed is None:
                raise
            raise typed from error


def refused(client: AudioClient, model: str, audio: bytes, **options: Any) -> BandstandError:
    """Return the error that a recording is refused with."""
    try:
        client.ask(model, audio, **options)
    except BandstandError as error:
        return error
    raise AssertionError("it was answered")
