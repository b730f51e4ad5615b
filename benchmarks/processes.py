"""Servers as processes: their CPU time and memory, and their end."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

_QUIET_SHARE = 0.05
_LONGEST_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running server: where it answers, and all its processes."""

    url: str
    processes: Sequence[psutil.Process]


def stop_what_was_started_on_sigterm() -> None:
    """Have SIGTERM end this process by its `finally` blocks, as Ctrl-C does: they stop servers."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Return the user and system time that living processes have used, in seconds.

    The kernel tells it in clock ticks (10 ms) a process: measure over many requests.

    Raises:
        psutil.NoSuchProcess: one of them died; then no figure would be right.
    """
    times = [process.cpu_times() for process in processes]
    return float(sum(one.user + one.system for one in times))


def wait_until_idle(processes: Sequence[psutil.Process]) -> None:
    """Return when the processes have done next to nothing for a second, or after a minute."""
    for _ in range(round(_LONGEST_WAIT_SECONDS)):
        before = cpu_seconds(processes)
        time.sleep(1.0)
        if cpu_seconds(processes) - before < _QUIET_SHARE:
            return


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process in MiB.

    Attributes:
        unique: pages of this process alone (USS): what its end would free.
        proportional: with its share of the pages that others have too (PSS).
    """

    unique: float
    proportional: float


def memory(process: psutil.Process) -> Memory:
    """Return what a process holds just now."""
    memory = process.memory_full_info()
    return Memory(memory.uss / 2**20, memory.pss / 2**20)
