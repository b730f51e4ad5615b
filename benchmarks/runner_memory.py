"""Memory of `bandstand serve` with the light models installed, by process.

It serves what the repository of the settings holds; models that are missing there are left out, and
the report says so. Exit code 1 if the goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.settings import get_settings
from bandstand_client.http import Bandstand
from benchmarks.goals import Goal, exit_code, goals_table
from benchmarks.processes import Memory, memory, stop_what_was_started_on_sigterm
from benchmarks.recordings import SAMPLE_RATE, real_clip
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from harness.recordings import wav
from harness.serving import Server, serving

MODULE = "benchmarks.runner_memory"
LIGHT = ("annoteator_drum_cnn", "genre_features", "genre_mfcc_cnn", "tags_jamendo", "tags_msd")
GOAL_MIB = 512.0
CONCURRENCY = 8
CLIP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Held:
    """One process: the service it runs, and what it held when ready, and after requests."""

    service: str
    ready: Memory
    after: Memory

    @property
    def is_runner(self) -> bool:
        """Whether it runs models."""
        return "runner" in self.service


def main() -> int:
    """Measure, print and write the report; return 1 if the goal is missed."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    options = parser.parse_args()
    stop_what_was_started_on_sigterm()
    facts = machine()
    usable = Catalogue.from_settings(get_settings()).usable()
    served = [name for name in LIGHT if name in usable]
    with (
        tempfile.TemporaryDirectory() as directory,
        serving(Path(directory) / "log", feature_cache_entries=0) as server,
    ):
        ready = {process.pid: memory(process) for process in server.processes()}
        ask(server, [usable[name] for name in served])
        found = [
            Held(service(process), ready[process.pid], memory(process))
            for process in server.processes()
        ]
    runners = sum(held.after.proportional for held in found if held.is_runner)
    goals = [Goal(f"MiB of the runner processes (PSS), {len(served)} models", runners, GOAL_MIB)]
    text = write_report(
        "runner_memory",
        "Memory of a server with light models",
        command_line(MODULE),
        [goals_table(goals), memory_table(found)],
        notes(served),
        measured_on=facts,
        directory=options.results,
    )
    print(text)
    return exit_code(goals)


def service(process: psutil.Process) -> str:
    """Return which service a process of the server runs."""
    command = process.cmdline()
    if "bandstand.audio.decoder_process" in command:
        return "decoder"
    named = "--service-name" in command
    return command[command.index("--service-name") + 1] if named else "supervisor"


def ask(server: Server, cards: Sequence[Card]) -> None:
    """Ask each model that an operation of HTTP answers with, several times at once."""
    content = wav(real_clip(CLIP_SECONDS)[:, None], SAMPLE_RATE)

    def once(card: Card) -> None:
        with Bandstand(server.url, timeout=120) as client:
            if card.task == "genre":
                client.classify(content, model_name=card.name)
            elif card.instruments:
                client.detect_instruments(content, model_name=card.name)

    with ThreadPoolExecutor(CONCURRENCY) as threads:
        list(threads.map(once, [card for card in cards for _ in range(2 * CONCURRENCY)]))


def memory_table(found: Sequence[Held]) -> Table:
    """Return a row a process, and their sums."""
    rows: list[tuple[str | float, ...]] = [
        (held.service, *(round(x) for x in (held.ready.proportional, held.after.proportional)))
        for held in sorted(found, key=lambda held: held.service)
    ]
    for what, which in (
        ("all runner processes", [held for held in found if held.is_runner]),
        ("all processes", list(found)),
    ):
        ready = sum(held.ready.proportional for held in which)
        after = sum(held.after.proportional for held in which)
        rows.append((what, round(ready), round(after)))
    return Table("PSS (MiB)", ("process", "ready", "after requests"), rows)


def notes(served: Sequence[str]) -> list[str]:
    """Return how it was measured."""
    missing = [name for name in LIGHT if name not in served]
    return [
        f"Served: {', '.join(served)}. Not installed here: {', '.join(missing) or 'none'}.",
        "Ready: every model has answered its warm-up, with the most rows that it computes at once.",
        f"After requests: {2 * CONCURRENCY} of a clip of {CLIP_SECONDS:g} s to each model that an "
        f"HTTP operation answers with, {CONCURRENCY} at a time.",
        "PSS divides a page that several processes share between them.",
    ]


if __name__ == "__main__":
    sys.exit(main())
