"""Faults around a Triton server fail only the call concerned, with a clear error."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from bandstand.errors import UnavailableError
from bandstand.models.installed import MODEL_FILE
from bandstand.models.repository import ModelRepository
from bandstand.settings import Settings
from bandstand.triton.config import to_text
from bandstand.triton.environment import environment_key, prepare_environment
from bandstand.triton.load_rules import ONE_BY_ONE
from bandstand.triton.server import ServerOptions, TritonServer, running_server
from harness.cards import get_card
from harness.recordings import tone
from harness.serving import free_port
from tests.contract.test_triton_configs import parse
from tests.triton_serving import (
    EMBEDDED,
    WAVEFORM_MODEL,
    AudioClient,
    embedded_repository,
    graph,
    refused,
    triton_serving,
    waveform_graph,
    write_graph,
)

TABLE = np.arange(5, dtype=np.float32)[:, None]


def config(name: str, **changes: Any) -> str:
    """The config of a lookup from `index` (INT64) to `value` (FP32)."""
    fields = {"input": "index", "kind": "TYPE_INT64", "dims": "1", "output": "value"} | changes
    content = f"""
        name: "{name}" backend: "onnxruntime" max_batch_size: 16
        input {{ name: "{fields["input"]}" data_type: {fields["kind"]} dims: {fields["dims"]} }}
        output {{ name: "{fields["output"]}" data_type: TYPE_FP32 dims: 1 }}
        dynamic_batching {{ max_queue_delay_microseconds: 200000 }}
    """
    return to_text(parse(content))


def lookup(batch: int | str = "n") -> bytes:
    """A graph that fails for an index outside its table, as a whole batch."""
    nodes = [
        helper.make_node("Squeeze", ["index", "axis"], ["flat"]),
        helper.make_node("Gather", ["table", "flat"], ["value"]),
    ]
    weights = {"table": TABLE, "axis": np.array([1], np.int64)}
    given = ("index", TensorProto.INT64, [batch, 1])
    return graph(nodes, weights, given, ("value", TensorProto.FLOAT, [batch, 1]))


BROKEN = {
    "fixed_batch": ({}, lookup(batch=1), "the first dimension must be -1"),
    "other_dims": ({"dims": "2"}, lookup(), "specifies 2 dimensions"),
    "other_type": ({"kind": "TYPE_INT32"}, lookup(), "expects datatype TYPE_INT32"),
    "other_input": ({"input": "indices"}, lookup(), "unexpected inference input 'indices'"),
    "other_output": ({"output": "values"}, lookup(), "unexpected inference output 'values'"),
    "no_onnx": ({}, b"this is no ONNX file", "onnx runtime error"),
}


@pytest.fixture(scope="module")
def beside_broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """Good models, models that must not load, and one that answers NaN."""
    repository = embedded_repository(tmp_path_factory.mktemp("faults") / "models")
    for name, (changes, encoded, _) in BROKEN.items():
        write_graph(repository.root / name / "1" / MODEL_FILE, encoded)
        (repository.root / name / "config.pbtxt").write_text(config(name, **changes))
    write_graph(repository.root / "lookup" / "1" / MODEL_FILE, lookup())
    (repository.root / "lookup" / "config.pbtxt").write_text(config("lookup"))
    write_graph(repository.root / "row_by_row" / "1" / MODEL_FILE, lookup())
    by_rows = parse(config("row_by_row"))
    by_rows.parameters[ONE_BY_ONE].string_value = "1"
    (repository.root / "row_by_row" / "config.pbtxt").write_text(to_text(by_rows))
    card = get_card(WAVEFORM_MODEL)
    repository.install(card, {MODEL_FILE: waveform_graph(card, scale=float("nan"))})
    with triton_serving(repository) as server:
        yield server


@pytest.mark.parametrize("name", BROKEN)
def test_what_the_native_backend_refuses_is_refused_with_the_reason(
    name: str, beside_broken: TritonServer
) -> None:
    (state,) = (model for model in beside_broken.models() if model.name == name)
    assert not state.ready
    assert BROKEN[name][2] in state.reason


def test_good_models_answer_beside_broken_ones(beside_broken: TritonServer) -> None:
    ready = {model.name for model in beside_broken.models() if model.ready}
    assert {EMBEDDED, WAVEFORM_MODEL, "lookup", "classify_genre"} <= ready
    assert AudioClient(beside_broken.grpc_address).ask("classify_genre", tone(2))


def test_nan_out_of_a_model_is_an_error(beside_broken: TritonServer) -> None:
    client = AudioClient(beside_broken.grpc_address)
    error = refused(client, "classify_genre", tone(4), model_name=WAVEFORM_MODEL)
    assert error.error_type == "non_finite_output"
    assert client.ask("classify_genre", tone(4)), "the server must go on"


def test_a_bad_row_fails_no_other_of_its_batch(beside_broken: TritonServer) -> None:
    client = grpc.InferenceServerClient(beside_broken.grpc_address)

    def ask(index: int) -> float | str:
        tensor = grpc.InferInput("index", [1, 1], "INT64")
        tensor.set_data_from_numpy(np.array([[index]]))
        try:
            return float(client.infer("lookup", [tensor]).as_numpy("value")[0, 0])
        except InferenceServerException as error:
            return str(error.message()).partition(":")[0]

    asked = [0, 1, 99, 2, 3, -99, 4]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(ask, asked))
    failed = "onnx runtime error"
    assert answers == [0.0, 1.0, failed, 2.0, 3.0, failed, 4.0]
    sizes = client.get_inference_statistics("lookup").model_stats[0].batch_stats
    assert max(batch.batch_size for batch in sizes) > 1, "they never met in a batch"


def test_a_model_that_computes_row_by_row_answers_as_one_that_does_not(
    beside_broken: TritonServer,
) -> None:
    client = grpc.InferenceServerClient(beside_broken.grpc_address)
    tensor = grpc.InferInput("index", [4, 1], "INT64")
    tensor.set_data_from_numpy(np.array([[3], [0], [4], [1]]))
    answer = client.infer("row_by_row", [tensor]).as_numpy("value")
    np.testing.assert_array_equal(answer, [[3], [0], [4], [1]])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_server_that_ended(how: signal.Signals, tmp_path: Path) -> None:
    with triton_serving(embedded_repository(tmp_path)) as server:
        stubs = psutil.Process(server.process.pid).children(recursive=True)
        assert stubs
        assert server.shared_memory()
        os.kill(server.process.pid, how)
        server.process.wait(60)
    gone, alive = psutil.wait_procs(stubs, timeout=10)
    assert (len(gone), alive) == (len(stubs), [])
    assert not server.shared_memory()


def test_a_port_in_use_is_told(beside_broken: TritonServer, tmp_path: Path) -> None:
    taken = beside_broken.options
    options = ServerOptions(
        repository=ModelRepository(tmp_path / "empty").root,
        http_port=taken.http_port,
        grpc_port=taken.grpc_port,
        metrics_port=taken.metrics_port,
    )
    with pytest.raises(UnavailableError, match="in use"), running_server(options):
        pass


def test_an_environment_that_cannot_be_had_is_told_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed process left is taken for missing; without an index it cannot be made anew."""
    nowhere = f"http://127.0.0.1:{free_port()}/simple"
    for installer in ("PIP", "UV"):
        monkeypatch.setenv(f"{installer}_FIND_LINKS", "")
        monkeypatch.setenv(f"{installer}_CACHE_DIR", str(tmp_path / installer))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", nowhere)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("UV_DEFAULT_INDEX", nowhere)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    settings = Settings(cache_dir=tmp_path)
    half_made = tmp_path / "triton" / environment_key() / "bin" / "tritonserver"
    half_made.parent.mkdir(parents=True)
    half_made.touch()
    with pytest.raises(UnavailableError, match="PIP_FIND_LINKS"):
        prepare_environment(settings.cache_dir)
    assert not half_made.exists()
    assert not list((tmp_path / "triton").glob("*/complete"))
