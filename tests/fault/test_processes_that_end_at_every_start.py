"""What ends its process at every start neither keeps the machine busy nor stops the others."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bandstand.models.card import Card
from bandstand.models.installed import MODEL_FILE
from bandstand.models.repository import ModelRepository
from bandstand_bentos.model_runner import SHARED_RUNNER
from bandstand_client.errors import BandstandClientError, ServerError
from bandstand_client.http import Bandstand
from harness import PROJECT_ROOT
from harness.cards import get_card
from harness.recordings import tone
from harness.serving import START_SECONDS, STOP_SECONDS, Server, free_port, serving
from tests.triton_serving import EMBEDDED, WAVEFORM_MODEL, waveform_graph

KEY = "a key of an administrator"
RECORDING = tone(1.0, 16_000)
FATAL, FATAL_HEAVY, FATAL_LATER = "fatal", "fatal_heavy", "fatal_later"
REASON = "the process ended while it loaded this model"
SUPERVISE = """\
import sys
from pathlib import Path
from bandstand_bentos.server_folder import ServerFolder
from bandstand_bentos.supervisor_seam import Supervision, supervise
port, path = sys.argv[1:]
with ServerFolder.supervised(Path(path)) as folder:
    how = Supervision(drain_seconds=5, check_seconds=0.1, folder=folder)
    crashing = "tests.fault.crashing_service:Crashing"
    supervise(crashing, Path.cwd(), host="127.0.0.1", port=int(port), how=how)
"""


def test_the_pauses_between_its_starts_grow(tmp_path: Path) -> None:
    crashes, folder = tmp_path / "crashes", tmp_path / "server"
    folder.mkdir()
    environment = {**os.environ, "BENTOML_DO_NOT_TRACK": "True", "CRASHES": str(crashes)}
    with (tmp_path / "log").open("wb") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, str(free_port()), str(folder)],
            cwd=PROJECT_ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        times: list[float] = []
        while len(times) < 4:
            assert supervisor.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, times
            time.sleep(0.1)
            times = (
                [float(line) for line in crashes.read_text().split()] if crashes.exists() else []
            )
        first, second, third, fourth = times[:4]
        assert second - first >= 0.5
        assert third - second >= 1
        assert fourth - third >= 2
        supervisor.send_signal(signal.SIGTERM)  # in a pause
        assert supervisor.wait(STOP_SECONDS) == 0, (tmp_path / "log").read_text()
    finally:
        if supervisor.poll() is None:
            os.killpg(supervisor.pid, signal.SIGKILL)
            supervisor.wait()


def fatal_graph(card: Card) -> bytes:
    """Return a graph that ends the process that loads it.

    ONNX Runtime computes constants when it loads a graph. The smallest integer divided by -1 is
    none: x86 processors interrupt a program that tries (SIGFPE).
    """
    model = onnx.load_from_string(waveform_graph(card))
    graph, answer = model.graph, model.graph.output[0].name
    graph.node[-1].output[0] = "before"
    graph.node.extend(
        [
            helper.make_node("Div", ["smallest", "minus_one"], ["quotient"]),
            helper.make_node("Cast", ["quotient"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["before", "number"], [answer]),
        ]
    )
    for name, value in (("smallest", np.iinfo(np.int64).min), ("minus_one", -1)):
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
    encoded: bytes = model.SerializeToString()
    return encoded


def install_fatal(repository: ModelRepository, name: str, runner: str) -> None:
    card = get_card(WAVEFORM_MODEL)
    own = Card.model_validate(card.model_dump() | {"name": name, "runner": runner})
    repository.install(own, {MODEL_FILE: fatal_graph(own)})


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    """A good model, and two that end the process that loads them."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("this processor divides the smallest integer by -1")
    repository = ModelRepository.over_embedded(tmp_path_factory.mktemp("models") / "models")
    card = get_card(WAVEFORM_MODEL)
    repository.install(card, {MODEL_FILE: waveform_graph(card)})
    install_fatal(repository, FATAL, "shared")
    install_fatal(repository, FATAL_HEAVY, "own")
    return repository


@pytest.fixture(scope="module")
def server(
    repository: ModelRepository, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("server") / "log",
        repository=repository.root,
        runtime="onnxruntime",
        admin_key=KEY,
    ) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Bandstand]:
    with Bandstand(server.url, api_key=KEY) as opened:
        yield opened


def until_answered(client: Bandstand, model: str) -> None:
    """Wait until a model answers; its process may be starting again."""

    def answered() -> bool:
        try:
            return client.classify(RECORDING, model_name=model).method == model
        except BandstandClientError:
            return False

    eventually(answered)


def until_left_out(client: Bandstand, *names: str) -> None:
    """Wait until models are listed as broken, with the reason."""

    def left_out() -> bool:
        listed = {model.name: model for model in client.models().models}
        return all(
            listed[name].status == "broken" and REASON in (listed[name].reason or "")
            for name in names
        )

    eventually(left_out)


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not check():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.2)


def test_models_that_end_their_process_are_left_out_and_the_others_serve(client: Bandstand) -> None:
    until_answered(client, EMBEDDED)
    until_answered(client, WAVEFORM_MODEL)
    until_left_out(client, FATAL, FATAL_HEAVY)
    for name in (FATAL, FATAL_HEAVY):
        with pytest.raises(ServerError, match=REASON):
            client.classify(RECORDING, model_name=name)


def test_one_that_is_loaded_later_is_left_out_as_well(
    server: Server, client: Bandstand, repository: ModelRepository
) -> None:
    until_answered(client, WAVEFORM_MODEL)
    before = server.worker(SHARED_RUNNER).pid
    install_fatal(repository, FATAL_LATER, "shared")
    with pytest.raises(ServerError, match=REASON):
        client.load_model(FATAL_LATER)
    until_answered(client, EMBEDDED)
    until_answered(client, WAVEFORM_MODEL)
    until_left_out(client, FATAL, FATAL_LATER)
    assert server.worker(SHARED_RUNNER).pid != before
