"""Versions change and models are unloaded and loaded under load; no request is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bandstand.models.repository import ModelRepository
from bandstand.settings import get_settings
from bandstand_bentos.model_runner import SHARED_RUNNER
from bandstand_client.contract.genre import GenreAnswer
from bandstand_client.errors import AuthenticationError, NotFoundError, RefusedError
from bandstand_client.grpc import BandstandGrpc
from bandstand_client.http import AsyncBandstand, Bandstand
from harness.cards import get_card
from harness.serving import Server, serving
from tests.triton_serving import ADMIN_KEY, triton_serving

NAME = "genre_features"
KEY = ADMIN_KEY


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    """One model in two versions."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(get_settings().repository / NAME, root / NAME)
    repository = ModelRepository(root)
    first = repository.latest(NAME)
    repository.install(first.card(), {p.name: p for p in first.folder.iterdir()})
    return repository


@pytest.fixture(scope="module")
def controlled(
    repository: ModelRepository, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(
        log, repository=repository.root, admin_key=KEY, feature_cache_entries=0
    ) as running:
        yield running


@pytest.fixture
def admin(controlled: Server) -> Iterator[Bandstand]:
    with Bandstand(controlled.url, api_key=KEY) as client:
        yield client
        client.load_model(NAME)


def bandstand(address: str, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    given = {"BANDSTAND_API_KEY": KEY, "BANDSTAND_REPOSITORY": str(root)}
    return subprocess.run(
        [sys.executable, "-m", "bandstand_cli", "models", *arguments, "--server", address],
        capture_output=True,
        text=True,
        env={**os.environ, **given},
        timeout=60,
        check=False,
    )


async def test_versions_change_under_load_without_a_lost_request(
    controlled: Server, admin: Bandstand, samples_dir: Path
) -> None:
    audio = (samples_dir / "band_groove.ogg").read_bytes()
    answers: list[GenreAnswer] = []
    done = asyncio.Event()
    async with AsyncBandstand(controlled.url, retries=0) as client:

        async def ask() -> None:
            while not done.is_set():
                answers.append(await client.classify(audio))

        asking = [asyncio.create_task(ask()) for _ in range(6)]
        for version in (1, 2, 1, None):
            before = len(answers)
            await asyncio.to_thread(admin.load_model, NAME, version)
            while len(answers) < before + 12:  # noqa: ASYNC110 (they come in their own time)
                await asyncio.sleep(0.02)
        done.set()
        await asyncio.gather(*asking)
    assert {answer.members[0].version for answer in answers} == {1, 2}
    assert len({answer.primary_genre for answer in answers}) == 1


def test_a_pinned_version_survives_the_runner(
    controlled: Server, admin: Bandstand, repository: ModelRepository, samples_dir: Path
) -> None:
    assert admin.load_model(NAME, 1).version == 1
    assert repository.pinned(NAME) == 1
    controlled.worker(SHARED_RUNNER).kill()
    controlled.wait_ready()
    assert admin.classify(samples_dir / "band_groove.ogg").members[0].version == 1


async def test_unloading_waits_for_what_was_begun(
    controlled: Server, admin: Bandstand, samples_dir: Path
) -> None:
    audio = (samples_dir / "band_groove.ogg").read_bytes()
    async with AsyncBandstand(controlled.url, retries=0) as client:
        asked = [asyncio.create_task(client.classify(audio)) for _ in range(8)]
        await asyncio.sleep(0.1)
        unloaded = await asyncio.to_thread(admin.unload_model, NAME)
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert unloaded.status == "installed"
        # Answered, or told that the model has gone: never a broken answer.
        for outcome in outcomes:
            assert isinstance(outcome, GenreAnswer) or (
                isinstance(outcome, RefusedError) and outcome.error_type == "model_not_installed"
            )
        assert (await client.analyze_features(audio)).tempo_bpm > 0
        assert (await client.wait_ready()).status == "ok"
        with pytest.raises(RefusedError, match="is not served here"):
            await client.classify(audio)
        assert (await asyncio.to_thread(admin.load_model, NAME)).status == "ready"
        assert (await client.classify(audio)).primary_genre


def check_the_command_line(address: str, root: Path) -> None:
    for arguments, said in (
        (("load", NAME), f"{NAME} serves version 2; installed: 1, 2\n"),
        (("rollback", NAME), f"{NAME} serves version 1; installed: 1, 2\n"),
        (("unload", NAME), f"{NAME} is not served; installed: 1, 2\n"),
        (("load", NAME, "--version", "1"), f"{NAME} serves version 1; installed: 1, 2\n"),
    ):
        run = bandstand(address, root, *arguments)
        assert (run.stdout, run.returncode) == (said, 0), run.stderr
    run = bandstand(address, root, "rollback", NAME)
    assert run.returncode == 1
    assert "no version before 1" in run.stderr


def test_the_command_line_changes_what_the_gateway_serves(
    controlled: Server, admin: Bandstand, repository: ModelRepository
) -> None:
    check_the_command_line(controlled.url, repository.root)
    assert admin.models().models


def test_the_command_line_changes_what_triton_serves(
    repository: ModelRepository, tmp_path: Path, samples_dir: Path
) -> None:
    shutil.copytree(repository.root, tmp_path / "models")
    with triton_serving(ModelRepository(tmp_path / "models")) as triton:
        check_the_command_line(f"grpc://{triton.grpc_address}", tmp_path / "models")
        with BandstandGrpc(triton.grpc_address) as client:
            answer = client.classify(samples_dir / "band_groove.ogg")
    assert answer.members[0].version == 1


def test_a_version_that_cannot_be_loaded_changes_nothing(
    admin: Bandstand, repository: ModelRepository, samples_dir: Path
) -> None:
    broken = repository.install(get_card(NAME), {"model.onnx": b"not a graph"})
    try:
        with pytest.raises(Exception, match=NAME) as refusal:
            admin.load_model(NAME, broken)
        assert getattr(refusal.value, "error_type", "") == "model_mismatch"
        assert repository.pinned(NAME) is None
        assert admin.classify(samples_dir / "band_groove.ogg").members[0].version == 2
    finally:
        repository.remove(NAME, broken)


def test_only_the_administrator_changes_models(controlled: Server, admin: Bandstand) -> None:
    with Bandstand(controlled.url, api_key="somebody") as client:
        with pytest.raises(AuthenticationError) as refusal:
            client.unload_model(NAME)
        assert refusal.value.status == 401
    with pytest.raises(NotFoundError):
        admin.load_model("no_such_model")
    with pytest.raises(RefusedError, match="has no version 99"):
        admin.load_model(NAME, 99)


def test_without_a_key_nobody_changes_models(server_url: str) -> None:
    with (
        Bandstand(server_url, api_key=KEY) as client,
        pytest.raises(AuthenticationError) as refusal,
    ):
        client.unload_model(NAME)
    assert (refusal.value.status, refusal.value.error_type) == (403, "model_control_off")
