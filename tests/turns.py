"""Tests of one run take turns: most are run beside others, those marked `alone` are not."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Wait until a test may run, and keep the others from what disturbs it until the block ends.

    The kernel gives up the locks of a worker that dies.

    Args:
        folder: that all workers of the run share.
        alone: whether nothing else may run meanwhile.
    """
    with ExitStack() as held:
        # Whoever is to be alone waits behind the door that all come through, so that nobody
        # begins before it.
        with _locked(folder / "door", fcntl.LOCK_EX):
            held.enter_context(_locked(folder / "room", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, kind)
        yield
