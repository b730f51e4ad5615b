"""On Triton a version is loaded, rolled back and unloaded while clients send requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from tritonclient.grpc import InferenceServerClient

from bandstand.models.repository import ModelRepository
from bandstand.triton.config import write_configs
from bandstand.triton.server import TritonServer
from bandstand_client.contract.genre import GenreAnswer
from bandstand_client.errors import BandstandClientError
from bandstand_client.grpc import AsyncBandstandGrpc, BandstandGrpc
from harness.recordings import tone
from tests.triton_serving import (
    WAVEFORM_MODEL,
    control_headers,
    embedded_repository,
    install_waveform_model,
    triton_serving,
)

CLIENTS = 8
RECORDING = tone(4.0)
ROUND = 3 * CLIENTS
"""So many answers are awaited between two changes, at least."""
MOST_ROUNDS = 50


Outcome = GenreAnswer | BandstandClientError


@dataclass
class Load:
    """What clients are told that ask one question after the other."""

    rounds: list[list[Outcome]] = field(default_factory=lambda: [[]])
    """By the round in which each was asked for."""

    @property
    def outcomes(self) -> list[Outcome]:
        """Return all of them."""
        return [outcome for outcomes in self.rounds for outcome in outcomes]

    async def round(self) -> list[Outcome]:
        """Return what comes of questions that are asked from now on."""
        asked_now: list[Outcome] = []
        self.rounds.append(asked_now)
        while len(asked_now) < ROUND:  # noqa: ASYNC110 (they come in their own time)
            await asyncio.sleep(0.02)
        return asked_now

    async def answered_by(self, *versions: int) -> None:
        """Wait until all answers are from these: what was asked before may be answered first."""
        for _ in range(MOST_ROUNDS):
            if versions_of(await self.round()) == set(versions):
                return
        raise AssertionError(f"{versions} never took over")


def versions_of(outcomes: list[Outcome]) -> set[int | None]:
    """Return the versions that answered."""
    return {answer.members[0].version for answer in outcomes if isinstance(answer, GenreAnswer)}


@asynccontextmanager
async def load_on(address: str) -> AsyncIterator[Load]:
    """Have clients ask until the block ends."""
    load, done = Load(), asyncio.Event()

    async def ask() -> None:
        async with AsyncBandstandGrpc(address, retries=0) as client:
            while not done.is_set():
                asked_now = load.rounds[-1]
                try:
                    asked_now.append(await client.classify(RECORDING, model_name=WAVEFORM_MODEL))
                except BandstandClientError as error:
                    asked_now.append(error)

    asking = [asyncio.create_task(ask()) for _ in range(CLIENTS)]
    try:
        yield load
    finally:
        done.set()
        await asyncio.gather(*asking)


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    repository = embedded_repository(tmp_path_factory.mktemp("versions") / "models")
    install_waveform_model(repository)
    return repository


@pytest.fixture
def server(repository: ModelRepository) -> Iterator[TritonServer]:
    with triton_serving(repository) as running:
        yield running


async def load_model(server: TritonServer, repository: ModelRepository) -> None:
    """Have the server take up what the repository says, through its own interface."""

    def load() -> None:
        write_configs(repository)
        with InferenceServerClient(server.grpc_address) as client:
            client.load_model(WAVEFORM_MODEL, headers=control_headers(server))

    await asyncio.to_thread(load)


def unload_model(server: TritonServer) -> None:
    with InferenceServerClient(server.grpc_address) as client:
        client.unload_model(WAVEFORM_MODEL, headers=control_headers(server))


def scores_of(load: Load) -> dict[int | None, set[str]]:
    """Return by version what it answered to the one question; every outcome has to be an answer."""
    answers: dict[int | None, set[str]] = {}
    for answer in load.outcomes:
        assert isinstance(answer, GenreAnswer), answer
        rounded = {genre: round(score, 4) for genre, score in answer.all_scores.items()}
        answers.setdefault(answer.members[0].version, set()).add(str(rounded))
    return answers


async def test_a_new_version_takes_over_is_rolled_back_and_leaves(
    server: TritonServer, repository: ModelRepository
) -> None:
    async with load_on(server.grpc_address) as load:
        await load.answered_by(1)
        assert install_waveform_model(repository, seed=40) == 2
        assert versions_of(await load.round()) == {1}, "installed is not loaded"
        await load_model(server, repository)
        await load.answered_by(2)
        repository.pin(WAVEFORM_MODEL, 1)
        await load_model(server, repository)
        await load.answered_by(1)
        repository.pin(WAVEFORM_MODEL, None)
        await load_model(server, repository)
        await load.answered_by(2)
    scores = scores_of(load)
    assert scores.keys() == {1, 2}
    assert not scores[1] & scores[2], "an answer names a version that did not give it"


async def test_unloading_in_use_breaks_no_answer(
    server: TritonServer, repository: ModelRepository
) -> None:
    async with load_on(server.grpc_address) as load:
        await load.answered_by(1)
        await asyncio.to_thread(unload_model, server)
        await load.answered_by()
        await load_model(server, repository)
        answered = await load.round()
    assert versions_of(answered) == {1}
    assert all(isinstance(answer, GenreAnswer) for answer in answered)
    for outcome in load.outcomes:
        # Answered, or told that the model has gone: never a broken answer.
        assert isinstance(outcome, GenreAnswer) or said(outcome) == (409, "model_not_installed"), (
            outcome
        )
    with BandstandGrpc(server.grpc_address) as client:
        assert client.classify(RECORDING).primary_genre, "another model is none the worse"


def said(error: BandstandClientError) -> tuple[int | None, str]:
    return error.status, error.error_type
