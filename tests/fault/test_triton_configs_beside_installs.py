"""Configs are written while other processes install models, and sweep what dead ones left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bandstand.models.repository import ModelRepository
from bandstand.models.staging import STAGING_PREFIX, writing
from bandstand.triton.config import CONFIG_FILE, LABEL_FILE, write_config, write_configs
from tests.triton_serving import EMBEDDED, embedded_repository

WRITES = 60


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return embedded_repository(tmp_path / "models")


@pytest.fixture
def sweeping(repository: ModelRepository) -> Iterator[None]:
    """Hold the writers' lock again and again, as installs do."""
    ends = threading.Event()

    def sweep() -> None:
        while not ends.wait(0.001):
            with writing(repository.root, "installing"):
                pass

    thread = threading.Thread(target=sweep)
    thread.start()
    yield
    ends.set()
    thread.join()


@pytest.mark.usefixtures("sweeping")
def test_a_config_that_is_being_written_is_not_swept(repository: ModelRepository) -> None:
    folder = repository.root / EMBEDDED
    for _ in range(WRITES):
        (folder / CONFIG_FILE).unlink(missing_ok=True)
        assert write_config(repository, EMBEDDED)
        assert (folder / CONFIG_FILE).is_file()
    assert (folder / LABEL_FILE).is_file()
    assert not list(folder.glob(f"{STAGING_PREFIX}*"))


def test_a_repository_with_its_configs_is_only_read(repository: ModelRepository) -> None:
    write_configs(repository)
    (repository.root / ".lock").unlink()
    assert EMBEDDED in write_configs(repository)
    assert not (repository.root / ".lock").exists(), "nothing was written, so no lock was taken"
