"""Fixtures that every tier shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bandstand.settings import get_settings
from bandstand.triton.server import TritonServer
from harness import PROJECT_ROOT
from harness.serving import Server, serving
from tests.triton_serving import embedded_repository, install_waveform_model, triton_serving


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real recordings, weights and tables; not part of the repository."""
    directory = get_settings().data_dir
    if not directory.is_dir():
        pytest.skip(f"the data folder {directory} is absent (BANDSTAND_DATA_DIR names it)")
    return directory


@pytest.fixture(scope="session")
def clips(data_dir: Path) -> list[Path]:
    """The real recordings, sorted by name."""
    return sorted((data_dir / "audio").glob("*.ogg"))


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """The short recordings of our own that the repository ships."""
    return PROJECT_ROOT / "samples"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One real server for all tests that do not hurt it."""
    with serving(tmp_path_factory.mktemp("server") / "server.log") as running:
        yield running


@pytest.fixture(scope="session")
def server_url(server: Server) -> str:
    """Where that server answers."""
    return server.url


@pytest.fixture(scope="session")
def triton_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """One real Triton server for all tests that do not hurt it."""
    repository = embedded_repository(tmp_path_factory.mktemp("triton") / "models")
    install_waveform_model(repository)
    with triton_serving(repository) as running:
        yield running
