"""Remembers which models ended their process while they were loaded.

A runtime can crash on a file, and a crash ends the process and all its other models. A file in the
journal's folder names the version that is being loaded, so the process that comes next knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bandstand.errors import ModelMismatchError
from bandstand.models.installed import InstalledModel

MOST_FATAL_LOADS = 2
"""A version is not tried again after so many. One end can have another cause, such as a kill."""


class LoadJournal:
    """The journal of one server's processes.

    Args:
        folder: where it is; None: nothing is remembered.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @contextmanager
    def loading(self, installed: InstalledModel) -> Iterator[None]:
        """Note that this version is being loaded in the block; an exception is no fatal load."""
        if self._folder is None:
            yield
            return
        mark = _mark(self._folder, installed)
        with suppress(OSError):  # a full disk must not stop the load
            mark.write_text(str(_fatal_loads(mark) + 1))
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    def check(self, installed: InstalledModel) -> None:
        """Check that a process may load this version.

        Raises:
            ModelMismatchError: it has ended too many processes.
        """
        if self._folder is None:
            return
        fatal_loads = _fatal_loads(_mark(self._folder, installed))
        if fatal_loads >= MOST_FATAL_LOADS:
            raise ModelMismatchError(
                f"{installed.name} version {installed.version} is not loaded: the last "
                f"{fatal_loads} times, the process ended while it loaded this model; install "
                "another version, or restart the server to try this one again"
            )

    def suspects(self) -> frozenset[str]:
        """Return the names of the models with a fatal load."""
        if self._folder is None or not self._folder.is_dir():
            return frozenset()
        return frozenset(mark.name.rpartition(".")[0] for mark in self._folder.iterdir())


def _mark(folder: Path, installed: InstalledModel) -> Path:
    return folder / f"{installed.name}.{installed.version}"


def _fatal_loads(mark: Path) -> int:
    try:
        return int(mark.read_text())
    except (OSError, ValueError):
        return 0
