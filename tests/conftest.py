"""Fixtures that every tier shares, and how the workers of one run divide it."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from bandstand.settings import get_settings
from bandstand.triton.server import TritonServer
from harness import PROJECT_ROOT
from harness.serving import Server, serving
from tests.triton_serving import embedded_repository, install_waveform_model, triton_serving
from tests.turns import turn

TIERS = ("e2e", "fault", "parity", "golden", "load", "contract", "unit")
"""In the order in which workers take their modules: what takes long is begun first."""


def folder_of_the_run(config: pytest.Config) -> Path | None:
    """Return the folder that all workers of a run share; None: there are no workers."""
    if not hasattr(config, "workerinput"):
        return None
    return Path(config.getoption("basetemp")).parent


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker one thread for computing, and its own folder of compiled functions.

    On two cores, two threads a worker would only wait for each other. numba (in librosa) crashes if
    two processes fill one folder of compiled functions at the same time.
    """
    if folder_of_the_run(config) is not None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        compiled = PROJECT_ROOT / ".pytest_cache" / f"numba-{config.workerinput['workerid']}"
        os.environ["NUMBA_CACHE_DIR"] = str(compiled)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have workers begin with what takes long, and end with the modules of what runs alone."""
    if folder_of_the_run(config) is None:
        return
    alone = {item.path for item in items if item.get_closest_marker("alone")}
    items.sort(key=lambda item: (item.path in alone, TIERS.index(item.path.parent.name)))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test, with its fixtures, in its turn."""
    folder = folder_of_the_run(item.config)
    if folder is None:
        return (yield)
    with turn(folder, alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real recordings, weights and tables; not part of the repository."""
    directory = get_settings().data_dir
    if not directory.is_dir():
        pytest.skip(f"the data folder {directory} is absent (BANDSTAND_DATA_DIR names it)")
    return directory


@pytest.fixture(scope="session")
def run_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of this run share."""
    return folder_of_the_run(pytestconfig) or tmp_path_factory.getbasetemp()


@pytest.fixture(scope="session")
def cards_root(data_dir: Path, run_folder: Path) -> Path:
    """The folder that `tests.installed_cards` exports models into, each once in a run."""
    folder = run_folder / "cards"
    folder.mkdir(exist_ok=True)
    return folder


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
def uncached_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same without the cache of features: what is asked twice is computed twice."""
    log = tmp_path_factory.mktemp("uncached") / "server.log"
    with serving(log, feature_cache_entries=0) as running:
        yield running


@pytest.fixture(scope="session")
def triton_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """One real Triton server for all tests that do not hurt it."""
    repository = embedded_repository(tmp_path_factory.mktemp("triton") / "models")
    install_waveform_model(repository)
    with triton_serving(repository) as running:
        yield running
