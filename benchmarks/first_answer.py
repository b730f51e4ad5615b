"""Time to the first answer: a fresh clone and `make serve`.

The clone has what is committed and nothing else; caches of package managers are empty.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.goals import Goal, exit_code, goals_table
from benchmarks.processes import stop_what_was_started_on_sigterm
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from harness import PROJECT_ROOT
from harness.serving import STOP_SECONDS, free_port

MODULE = "benchmarks.first_answer"
GOAL_SECONDS = 240.0
GOAL_GIGABYTES = 1.2
GIVE_UP_SECONDS = 1200.0
ANSWERED = "Serving at"
"""What `bandstand serve --try` prints below its first answer."""

# What would make it more than nothing: settings, another environment, package caches.
_NOT_INHERITED = re.compile(
    r"BANDSTAND_.*|BENTOML_.*|VIRTUAL_ENV|PYTHONPATH|MAKE.*|MFLAGS|(UV|PIP)_CACHE_DIR"
)


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """Seconds since the command was given, bytes on disk, and what was printed."""

    installed: float
    answered: float
    stopped: float
    environment_bytes: int
    output: str


def main() -> int:
    """Measure, print and write the report; return 1 if a goal is missed."""
    stop_what_was_started_on_sigterm()
    options = _options()
    measured_on = machine()
    scratch = Path(tempfile.mkdtemp(prefix="bandstand-first-answer-"))
    try:
        clone = scratch / "bandstand"
        _git(PROJECT_ROOT, "clone", "--quiet", "--no-local", str(PROJECT_ROOT), str(clone))
        found = measure(clone, scratch / "caches")
        commit = _git(clone, "rev-parse", "--short", "HEAD")
    finally:
        shutil.rmtree(scratch)
    gigabytes = found.environment_bytes / 1e9
    goals = [
        Goal("seconds to the first answer", found.answered, GOAL_SECONDS),
        Goal("disk of .venv (GB)", gigabytes, GOAL_GIGABYTES),
    ]
    rows = [
        ("installed", round(found.installed, 1)),
        ("first answer printed", round(found.answered, 1)),
        ("stopped, after SIGINT", round(found.stopped, 1)),
    ]
    notes = [
        f"`git clone` of {commit} into an empty folder, then `make serve PORT=…` there; the clock "
        "starts with the command and stops at its first answer on the screen.",
        "Package caches are empty; packages come from " + _where_packages_come_from() + ", and how "
        "fast that is is in the figure.",
        "Disk is what `du` counts.",
        "What it printed: " + " / ".join(_answer(found.output)),
    ]
    tables = [goals_table(goals), Table("Seconds", ("", "after"), rows)]
    title = "From nothing to the first answer of `make serve`"
    text = write_report(
        "first_answer",
        title,
        command_line(MODULE),
        tables,
        notes,
        measured_on=measured_on,
        directory=options.results,
    )
    print(text)
    return exit_code(goals)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    return parser.parse_args()


def measure(clone: Path, caches: Path) -> FirstAnswer:
    """Run `make serve` in a clone until it has answered, then stop it with SIGINT.

    Raises:
        RuntimeError: it ended, or took too long, before it answered.
    """
    started, started_at = time.monotonic(), time.time()
    with _make_serve(clone, caches) as process:
        output = _read_until_answered(process)
        answered = time.monotonic() - started
        stopping = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: the whole group
        process.communicate(timeout=STOP_SECONDS)
        stopped = time.monotonic() - stopping
    return FirstAnswer(
        installed=(clone / ".venv" / "installed-serve").stat().st_mtime - started_at,
        answered=answered,
        stopped=stopped,
        environment_bytes=_disk_bytes(clone / ".venv"),
        output=output,
    )


@contextmanager
def _make_serve(clone: Path, caches: Path) -> Iterator[subprocess.Popen[str]]:
    """Run it in a session of its own, none of whose processes outlives the block."""
    environment = {k: v for k, v in os.environ.items() if not _NOT_INHERITED.fullmatch(k)}
    process = subprocess.Popen(
        # The user's own tools, wherever they are.
        ["make", "serve", f"PORT={free_port()}"],  # noqa: S607
        cwd=clone,
        env={**environment, "XDG_CACHE_HOME": str(caches)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    # Killed, it prints no more, and who waits for a line gets the end of the output.
    watch = threading.Timer(GIVE_UP_SECONDS, _kill_session, [process.pid])
    watch.start()
    try:
        yield process
    finally:
        watch.cancel()
        _kill_session(process.pid)
        process.wait()


def _kill_session(leader: int) -> None:
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader:
                process.kill()


def _read_until_answered(process: subprocess.Popen[str]) -> str:
    """Pass on what is printed, and return it, up to the first answer."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        sys.stderr.write(line)
        lines.append(line)
        if ANSWERED in line:
            return "".join(lines)
    raise RuntimeError("no answer; the output ends:\n" + "".join(lines[-30:]))


def _where_packages_come_from() -> str:
    wheels = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")
    return "the package index and a folder of wheels (PIP_FIND_LINKS)" if wheels else "the index"


def _answer(output: str) -> list[str]:
    """Return the lines of the first answer: the last paragraph before `ANSWERED`."""
    paragraphs = output.partition(ANSWERED)[0].rstrip().split("\n\n")
    return [" ".join(line.split()) for line in paragraphs[-1].splitlines()]


def _disk_bytes(directory: Path) -> int:
    command = ["du", "-s", "--block-size=1", str(directory)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(run.stdout.split()[0])


def _git(repository: Path, *command: str) -> str:
    whole = ["git", "-C", str(repository), *command]
    return subprocess.run(whole, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
