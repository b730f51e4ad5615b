"""Ends a Triton server and removes what it leaves, also when the process that started it is killed.

`start_guardian` runs this file as a script in a process of its own. That process holds one end of a
pipe and waits until the other end is closed: the kernel does that however its owner ends. The
script imports nothing of Bandstand's, so it costs 10 MB of memory and no time.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
_LOOK_SECONDS = 0.1
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What a terminal or a service manager sends to all processes; the owner handles it."""


def clean_up(prefix: str, folder: Path, grace_seconds: float = 0.0) -> None:
    """End the server and its stubs; remove their shared memory files and the server's folder.

    Args:
        prefix: of the names of its shared memory files; no other process has it in its command.
        folder: the folder.
        grace_seconds: how long the server may take to finish its requests; 0: it is killed at once.
    """
    deadline = time.monotonic() + grace_seconds
    if grace_seconds:
        _signal(prefix, signal.SIGTERM)
    while time.monotonic() < deadline:
        processes = _processes(prefix)
        if not any(process == group for process, group in processes.items()):
            break  # the server, which leads its group, has ended
        time.sleep(_LOOK_SECONDS)
    while _signal(prefix, signal.SIGKILL):  # stubs run on after their server
        time.sleep(_LOOK_SECONDS)
    for left in shared_memory(prefix):
        left.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def shared_memory(prefix: str) -> list[Path]:
    """Return the shared memory files of the server and its stubs."""
    return list(_SHARED_MEMORY.glob(f"{prefix}*"))


def _processes(prefix: str) -> dict[int, int]:
    """Return the processes with `prefix` in their command, and the group of each."""
    found = {}
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        process = int(command.parent.name)
        try:
            if prefix.encode() in command.read_bytes():
                found[process] = os.getpgid(process)
        except OSError:
            continue  # it has just ended
    return found


def _signal(prefix: str, number: int) -> bool:
    """Signal the groups of these processes; return whether there were any."""
    groups = set(_processes(prefix).values())
    for group in groups:
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            continue
    return bool(groups)


def _wait_and_clean_up() -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # Not from the command line, where the prefix would make this process one of the server's.
    lines = sys.stdin.read().splitlines()
    if lines:  # else the owner ended before there was a server
        prefix, folder, grace_seconds = lines
        clean_up(prefix, Path(folder), float(grace_seconds))


if __name__ == "__main__":
    _wait_and_clean_up()
