"""The gateway on a real Triton answers what the embedded one answers, and follows its models."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bandstand.local import LocalBandstand
from bandstand.models.repository import ModelRepository
from bandstand.runners.triton_connection import TritonConnection
from bandstand.settings import Settings
from bandstand.triton.server import TritonServer
from bandstand_bentos.wiring import GATEWAY, PREPROCESSOR
from bandstand_client.errors import RefusedError, ServerError
from bandstand_client.http import Bandstand
from bandstand_client.triton_control import HEADER
from harness.cards import get_card
from harness.recordings import tone
from harness.serving import Server, serving
from tests.triton_serving import (
    ADMIN_KEY,
    EMBEDDED,
    WAVEFORM_MODEL,
    embedded_repository,
    install_waveform_model,
    triton_serving,
)

KEY = ADMIN_KEY
FOLLOWS_WITHIN_SECONDS = 10.0
MODELS = (EMBEDDED, WAVEFORM_MODEL)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    repository = embedded_repository(tmp_path_factory.mktemp("models") / "models")
    install_waveform_model(repository)
    return repository


@pytest.fixture(scope="module")
def triton(repository: ModelRepository) -> Iterator[TritonServer]:
    with triton_serving(repository) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    triton: TritonServer, repository: ModelRepository, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("gateway") / "log",
        runtime="triton",
        triton_url=triton.grpc_address,
        repository=repository.root,
        feature_cache_entries=0,
        admin_key=KEY,
    ) as running:
        yield running
    shared = httpx.get(
        f"{triton.http_url}/v2/systemsharedmemory/status", headers={HEADER: triton.control_key}
    ).json()
    assert shared == [], "a gateway that stops takes its memory back"


@pytest.fixture(scope="module")
def embedded(
    repository: ModelRepository, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("embedded") / "log"
    with serving(log, repository=repository.root, feature_cache_entries=0) as running:
        yield running


@pytest.fixture
def client(gateway: Server) -> Iterator[Bandstand]:
    with Bandstand(gateway.url, api_key=KEY, retries=0) as client:
        yield client


def answer(server: Server, path: str, audio: bytes, **params: Any) -> Any:
    reply = httpx.post(f"{server.url}{path}", params=params, content=audio, timeout=60)
    assert reply.status_code == 200, reply.text
    return {name: value for name, value in reply.json().items() if name != "timings_ms"}


def assert_same(ours: Any, theirs: Any, where: str = "answer") -> None:
    """Compare two answers field by field; numbers to the fourth digit."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert list(ours) == list(theirs), where
        for name, value in ours.items():
            assert_same(value, theirs[name], f"{where}.{name}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for i, value in enumerate(ours):
            assert_same(value, theirs[i], f"{where}[{i}]")
    else:
        expected = pytest.approx(theirs, rel=1e-4, abs=1e-4) if type(ours) is float else theirs
        assert ours == expected, where


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + FOLLOWS_WITHIN_SECONDS
    while not check():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.1)


def status_of(client: Bandstand, name: str) -> str:
    return {model.name: model.status for model in client.models().models}[name]


@pytest.mark.parametrize("model", MODELS)
def test_answers_equal_those_of_the_embedded_runtime(
    gateway: Server, embedded: Server, samples_dir: Path, model: str
) -> None:
    recordings = [path.read_bytes() for path in sorted(samples_dir.glob("*.ogg"))]
    # The longest takes more windows than the model does at once.
    for audio in (*recordings, tone(2.0), tone(290.0, sample_rate=8_000)):
        asked = {"model_name": model, "top_k": 4}
        assert_same(
            answer(gateway, "/predict", audio, **asked),
            answer(embedded, "/predict", audio, **asked),
        )


def test_features_equal_those_of_the_embedded_runtime(gateway: Server, embedded: Server) -> None:
    audio = tone(35.0)
    assert_same(
        answer(gateway, "/analyze/features", audio), answer(embedded, "/analyze/features", audio)
    )


async def test_the_command_lines_pipelines_work_on_triton_too(
    triton: TritonServer, repository: ModelRepository
) -> None:
    audio, scores = tone(7.0), []
    for settings in (
        Settings(repository=repository.root),
        Settings(repository=repository.root, runtime="triton", triton_url=triton.grpc_address),
    ):
        async with LocalBandstand(settings) as pipelines:
            scores.append((await pipelines.classify(audio, model_name=WAVEFORM_MODEL)).all_scores)
    assert scores[1] == pytest.approx(scores[0], rel=1e-4)


def test_no_process_of_ours_runs_a_model(gateway: Server) -> None:
    commands = [process.cmdline() for process in gateway.processes()]
    names = {c[c.index("--service-name") + 1] for c in commands if "--service-name" in c}
    assert GATEWAY in names
    assert names <= {GATEWAY, PREPROCESSOR}
    assert not any("runner_" in part for command in commands for part in command)


def test_the_listing_says_what_triton_serves(client: Bandstand) -> None:
    listed = {model.name: model for model in client.models().models}
    for name in MODELS:
        assert (listed[name].status, listed[name].version) == ("ready", 1)
        assert (listed[name].runtime or "").startswith("triton ")
    assert listed["genre_cnn"].status == "not_installed"
    checks = client.health().checks
    assert {"preprocessor", "triton", *MODELS} == checks.keys()
    assert set(checks.values()) == {"ok"}


async def test_models_come_and_go_with_triton(
    client: Bandstand, triton: TritonServer, repository: ModelRepository
) -> None:
    connection = TritonConnection(
        triton.grpc_address, channels=1, deadline_seconds=30, control_key=triton.control_key
    )
    await connection.unload(WAVEFORM_MODEL)
    with pytest.raises(RefusedError) as caught:
        client.classify(tone(1.0), model_name=WAVEFORM_MODEL)
    assert (caught.value.status, caught.value.error_type) == (409, "model_not_installed")
    eventually(lambda: status_of(client, WAVEFORM_MODEL) == "installed")
    client.wait_ready(FOLLOWS_WITHIN_SECONDS)
    assert client.classify(tone(1.0)).method == EMBEDDED

    await connection.load(WAVEFORM_MODEL)
    assert client.classify(tone(1.0), model_name=WAVEFORM_MODEL).method == WAVEFORM_MODEL
    eventually(lambda: status_of(client, WAVEFORM_MODEL) == "ready")
    await connection.aclose()


def test_the_gateway_changes_versions_on_triton(
    client: Bandstand, repository: ModelRepository
) -> None:
    def ask() -> tuple[int | None, dict[str, float]]:
        result = client.classify(tone(1.0), model_name=WAVEFORM_MODEL)
        return result.members[0].version, result.all_scores

    first = ask()
    assert install_waveform_model(repository, seed=7) == 2
    assert ask() == first, "nothing changes by itself"
    client.load_model(WAVEFORM_MODEL)
    second = ask()
    assert (first[0], second[0]) == (1, 2)
    assert second[1] != first[1]
    client.load_model(WAVEFORM_MODEL, 1)
    assert ask() == first
    client.unload_model(WAVEFORM_MODEL)
    with pytest.raises(RefusedError):
        ask()
    client.load_model(WAVEFORM_MODEL)
    assert ask() == second


def test_a_version_that_cannot_be_loaded_changes_nothing(
    client: Bandstand, repository: ModelRepository
) -> None:
    model_file = repository.latest(WAVEFORM_MODEL).model_path.name
    broken = repository.install(get_card(WAVEFORM_MODEL), {model_file: b"no graph"})
    before = client.classify(tone(1.0), model_name=WAVEFORM_MODEL)
    with pytest.raises(ServerError) as caught:
        client.load_model(WAVEFORM_MODEL)
    assert (caught.value.status, caught.value.error_type) == (500, "model_mismatch")
    after = client.classify(tone(1.0), model_name=WAVEFORM_MODEL)
    assert after.all_scores == before.all_scores
    repository.remove(WAVEFORM_MODEL, broken)
    client.load_model(WAVEFORM_MODEL)
    assert client.health().status == "ok"
