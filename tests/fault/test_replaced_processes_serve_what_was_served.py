"""A process that is killed comes back with the models of just now, not with those of the start."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from bandstand.models.card import Card
from bandstand.models.installed import MODEL_FILE
from bandstand.models.repository import ModelRepository
from bandstand_bentos.model_runner import SHARED_RUNNER, runner_name
from bandstand_bentos.wiring import GATEWAY
from bandstand_client.errors import NotFoundError, RefusedError, ServerError
from bandstand_client.http import Bandstand
from harness.cards import get_card
from harness.recordings import tone
from harness.serving import Server, serving
from tests.triton_serving import EMBEDDED, WAVEFORM_MODEL, waveform_graph

KEY = "the-administrators-key"
RECORDING = tone(1.0, 16_000)
BROKEN, HEAVY, LATER, LATER_HEAVY = "broken_graph", "heavy", "later", "later_heavy"
FOLLOWS_WITHIN_SECONDS = 30.0


def install(
    repository: ModelRepository, name: str, graph: bytes | None = None, **facts: str
) -> int:
    """Install a model that samples go into."""
    content = get_card(WAVEFORM_MODEL).model_dump() | {"name": name} | facts
    card = Card.model_validate(content)
    return repository.install(card, {MODEL_FILE: graph or waveform_graph(card)})


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    """A light model, a heavy one, and one whose graph is none."""
    repository = ModelRepository.over_embedded(tmp_path_factory.mktemp("models") / "models")
    install(repository, WAVEFORM_MODEL)
    install(repository, HEAVY, runner="own")
    install(repository, BROKEN, b"no graph")
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


def replaced(server: Server, service: str) -> None:
    """Kill a process, and return when another has taken its place and the server is ready."""
    before = server.worker(service).pid
    server.worker(service).kill()
    eventually(lambda: is_there(server, service) not in (None, before))
    server.wait_ready()


def is_there(server: Server, service: str) -> int | None:
    try:
        return server.worker(service).pid
    except LookupError:
        return None


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + FOLLOWS_WITHIN_SECONDS
    while not check():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.1)


def answers(client: Bandstand) -> set[str]:
    """Return the models that answer; the others must say that they are not served."""
    found = set()
    for name in (EMBEDDED, WAVEFORM_MODEL, HEAVY, LATER, LATER_HEAVY):
        try:
            found.add(client.classify(RECORDING, model_name=name).method)
        except NotFoundError:  # nobody has installed it yet
            continue
        except RefusedError as refusal:
            if refusal.error_type != "model_not_installed":
                raise
    return found


def test_a_model_that_cannot_be_loaded_takes_no_other_down(client: Bandstand) -> None:
    assert answers(client) == {EMBEDDED, WAVEFORM_MODEL, HEAVY}
    with pytest.raises(ServerError, match="ONNX Runtime cannot load") as refusal:
        client.classify(RECORDING, model_name=BROKEN)
    assert refusal.value.error_type == "model_mismatch"
    assert client.health().status == "ok"
    listed = {model.name: model for model in client.models().models}
    assert listed[BROKEN].status == "broken"
    assert "ONNX Runtime cannot load" in (listed[BROKEN].reason or "")


@pytest.mark.parametrize(
    "service",
    [GATEWAY, SHARED_RUNNER, pytest.param(runner_name(HEAVY), marks=pytest.mark.release)],
)
def test_who_comes_back_serves_what_was_installed_and_not_what_was_unloaded(
    server: Server, client: Bandstand, repository: ModelRepository, service: str
) -> None:
    for name, facts in ((LATER, {}), (LATER_HEAVY, {"runner": "own"})):
        if not repository.has(name):
            install(repository, name, **facts)
        client.load_model(name)
    client.load_model(HEAVY)
    expected = {EMBEDDED, HEAVY, LATER, LATER_HEAVY}
    client.load_model(WAVEFORM_MODEL)
    assert answers(client) == expected | {WAVEFORM_MODEL}
    client.unload_model(WAVEFORM_MODEL)
    replaced(server, service)
    assert answers(client) == expected
    replaced(server, GATEWAY)  # which asks the runner processes
    assert answers(client) == expected
    client.unload_model(HEAVY)
    replaced(server, service)
    assert answers(client) == expected - {HEAVY}


def test_a_model_is_never_computed_in_the_gateway(
    server: Server, client: Bandstand, repository: ModelRepository
) -> None:
    if not repository.has(LATER):
        install(repository, LATER)
    client.load_model(LATER)
    assert client.classify(RECORDING, model_name=LATER).method == LATER
    graph = repository.latest(LATER).model_path
    runtime = "onnxruntime_pybind11_state"
    assert graph.is_file()
    mapped = {m.path for m in server.worker(GATEWAY).memory_maps()}
    assert not [path for path in mapped if runtime in path]
    mapped = {m.path for m in server.worker(SHARED_RUNNER).memory_maps()}
    assert [path for path in mapped if runtime in path]


def test_both_sides_may_die_at_once(
    server: Server, client: Bandstand, repository: ModelRepository
) -> None:
    if not repository.has(LATER):
        install(repository, LATER)
    client.load_model(LATER)
    before = server.worker(GATEWAY).pid
    server.worker(SHARED_RUNNER).kill()
    server.worker(GATEWAY).kill()
    eventually(lambda: is_there(server, GATEWAY) not in (None, before))
    server.wait_ready()
    assert {EMBEDDED, LATER} <= answers(client)
