"""The folder that the processes of one server share; `bandstand serve` makes and removes it.

It has the metrics, the supervisor's sockets, and marks by which processes know of each other. A
lock marks a process that runs: the kernel frees it when the process ends, in whatever way.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from prometheus_client.multiprocess import mark_process_dead

SUPERVISOR_LOCK = "supervisor.lock"
GATEWAY_LOCK = "gateway.lock"

_VARIABLE = "BANDSTAND_SERVER_FOLDER"


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """The folder of one server."""

    path: Path

    @classmethod
    @contextmanager
    def supervised(cls, path: Path) -> Iterator[ServerFolder]:
        """Use an empty folder for the server that this process supervises in the block."""
        folder = cls(path)
        folder.metrics.mkdir()
        folder.loading.mkdir()
        folder._ready.mkdir()
        os.environ[_VARIABLE] = str(path)  # the supervised processes inherit it
        try:
            with folder.hold(SUPERVISOR_LOCK):
                yield folder
        finally:
            del os.environ[_VARIABLE]

    @classmethod
    def of_this_process(cls) -> ServerFolder | None:
        """Return the folder of the server that this process is a part of.

        None: it was started in another way, with plain `bentoml serve`.
        """
        path = os.environ.get(_VARIABLE)
        return None if path is None else cls(Path(path))

    @property
    def metrics(self) -> Path:
        """Folder of the metrics that the processes share."""
        return self.path / "metrics"

    @property
    def loading(self) -> Path:
        """Folder of `bandstand.runners.load_journal`."""
        return self.path / "loading"

    @property
    def _ready(self) -> Path:
        return self.path / "ready"

    def _mark(self, process: int) -> Path:
        return self._ready / str(process)

    def hold(self, lock: str) -> IO[bytes]:
        """Hold a lock until the returned file is closed or this process ends.

        Raises:
            FileNotFoundError: the folder has been removed: the server has ended.
        """
        file = (self.path / lock).open("wb")
        fcntl.flock(file, fcntl.LOCK_SH)
        return file

    def is_held(self, lock: str) -> bool:
        """Return whether a process holds a lock."""
        try:
            with (self.path / lock).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def note_end(self, process: int) -> float:
        """Remove the marks of a process that has ended; return how long it was ready, in seconds.

        Its metrics stay, except how many requests it has in flight. If it never was ready, it has
        no metrics, and all its files are removed: it may be one of a long series.
        """
        mark_process_dead(process, str(self.metrics))  # type: ignore[no-untyped-call]
        mark = self._mark(process)
        try:
            since = mark.stat().st_mtime
            mark.unlink()
        except OSError:
            for file in self.metrics.glob(f"*_{process}.db"):
                file.unlink(missing_ok=True)
            return 0.0
        return max(0.0, time.time() - since)


def mark_ready() -> None:
    """Note for the supervisor that this process is ready to work; call it after its start-up."""
    folder = ServerFolder.of_this_process()
    if folder is not None:
        folder._mark(os.getpid()).touch()
