"""Models in one runner process: each changes by itself, and what one does costs no other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from bandstand.models.card import Card
from bandstand.models.installed import MODEL_FILE
from bandstand.models.repository import ModelRepository
from bandstand_bentos.model_runner import SHARED_RUNNER, runner_name
from bandstand_client.contract.genre import GenreAnswer
from bandstand_client.errors import RefusedError, ServerError
from bandstand_client.http import AsyncBandstand, Bandstand
from harness.cards import get_card
from harness.recordings import tone
from harness.serving import Server, serving
from tests.nan_model import check_loud_ones_fail_alone, install_nan_model
from tests.triton_serving import EMBEDDED, WAVEFORM_MODEL, waveform_graph

KEY = "the-administrators-key"
RECORDING = tone(1.0, 16_000)
ONE, OTHER, HEAVY, LATER = "one", "other", "heavy", "later"


def install(
    repository: ModelRepository, name: str, graph: bytes | None = None, **facts: object
) -> int:
    """Install a model that samples go into."""
    card = Card.model_validate(get_card(WAVEFORM_MODEL).model_dump() | {"name": name} | facts)
    return repository.install(card, {MODEL_FILE: graph or waveform_graph(card)})


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    """Two light models, one of them in two versions, a heavy one, and one that answers NaN."""
    repository = ModelRepository.over_embedded(tmp_path_factory.mktemp("models") / "models")
    for name in (ONE, ONE, OTHER):
        install(repository, name)
    install(repository, HEAVY, runner="own")
    install_nan_model(repository)
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
def admin(server: Server) -> Iterator[Bandstand]:
    with Bandstand(server.url, api_key=KEY) as client:
        yield client


def test_a_runner_process_is_shared_unless_a_card_asks_for_its_own(server: Server) -> None:
    shared, own = server.worker(SHARED_RUNNER), server.worker(runner_name(HEAVY))
    assert shared.pid != own.pid
    for name in (EMBEDDED, ONE, OTHER, WAVEFORM_MODEL):
        with pytest.raises(LookupError):
            server.worker(runner_name(name))


async def test_changes_of_one_model_cost_no_request_of_any(
    server: Server, admin: Bandstand, repository: ModelRepository
) -> None:
    install(repository, LATER)
    broken = install(repository, OTHER, b"no graph")
    answers: dict[str, list[GenreAnswer]] = {ONE: [], OTHER: [], HEAVY: [], EMBEDDED: []}
    done = asyncio.Event()

    async with AsyncBandstand(server.url, retries=0) as client:

        async def ask(name: str) -> None:
            while not done.is_set():
                answers[name].append(await client.classify(RECORDING, model_name=name))

        async def some_more() -> None:
            before = {name: len(found) for name, found in answers.items()}
            while any(len(answers[name]) < before[name] + 3 for name in answers):
                assert not any(task.done() for task in asking), "a request was lost"
                await asyncio.sleep(0.02)

        asking = [asyncio.create_task(ask(name)) for name in answers for _ in range(2)]
        try:
            await some_more()
            for version in (1, 2):
                await asyncio.to_thread(admin.load_model, ONE, version)
                await some_more()
            await asyncio.to_thread(admin.load_model, LATER)
            assert (await client.classify(RECORDING, model_name=LATER)).method == LATER
            with pytest.raises(ServerError, match=OTHER) as refusal:
                await asyncio.to_thread(admin.load_model, OTHER, broken)
            assert refusal.value.error_type == "model_mismatch"
            await some_more()
            await asyncio.to_thread(admin.unload_model, LATER)
            with pytest.raises(RefusedError, match="is not served here"):
                await client.classify(RECORDING, model_name=LATER)
            await some_more()
        finally:
            done.set()
            await asyncio.gather(*asking)
    assert {answer.members[0].version for answer in answers[ONE]} == {1, 2}
    assert {answer.members[0].version for answer in answers[OTHER]} == {1}


async def test_what_one_model_cannot_answer_is_no_other_requests_fault(server: Server) -> None:
    async with AsyncBandstand(server.url) as client:
        asked = asyncio.gather(
            *(client.classify(RECORDING, model_name=name) for name in (ONE, OTHER) for _ in "1234")
        )
        await check_loud_ones_fail_alone(client)
        assert {answer.method for answer in await asked} == {ONE, OTHER}


def test_a_model_installed_later_is_heavy_or_light_in_the_shared_process(
    server: Server, admin: Bandstand, repository: ModelRepository
) -> None:
    install(repository, "later_heavy", runner="own")
    assert admin.load_model("later_heavy").status == "ready"
    assert admin.classify(RECORDING, model_name="later_heavy").method == "later_heavy"
    with pytest.raises(LookupError):
        server.worker(runner_name("later_heavy"))
