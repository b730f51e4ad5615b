"""Fixtures that every tier shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from bandstand.settings import PROJECT_ROOT, get_settings


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
