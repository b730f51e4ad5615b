"""A heavy model: seconds to its first answer, and memory while it answers.

The model is the Audio Spectrogram Transformer of the real size with random weights, exported as any
other. A fresh process loads it and answers, once with the runtime that is chosen here by itself and
once with ONNX Runtime. Then `bandstand serve` serves it, and its runner's process is looked at.
Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bandstand.models.installed import MODEL_FILE
from bandstand.models.repository import ModelRepository
from bandstand.settings import Runtime
from benchmarks.goals import Goal, exit_code, goals_table
from benchmarks.model_process import Life, ProcessMemory, fresh_process, memory_of
from benchmarks.processes import stop_what_was_started_on_sigterm
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from harness.cards import get_card
from harness.serving import serving

MODULE = "benchmarks.heavy_model"
NAME = "instruments_ast"
GOAL_SECONDS = 3.0
GOAL_SHARE_OF_WEIGHTS = 1.6
MEBI = 2**20


def main() -> int:
    """Measure, print and write the report; return 1 if a goal is missed."""
    options = _options()
    stop_what_was_started_on_sigterm()
    measured_on = machine()
    with tempfile.TemporaryDirectory() as directory:
        repository = ModelRepository(Path(directory) / "models")
        weights = install(repository, small=options.small)
        model_path = repository.latest(NAME).model_path
        lives: dict[Runtime, list[Life]] = {"auto": [], "onnxruntime": []}
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for runtime, found in lives.items():
                found.append(fresh_process(NAME, model_path, runtime))
        served = None
        if not options.no_service:
            print("serving", file=sys.stderr)
            served = served_memory(repository.root, Path(directory) / "server.log")
    chosen = lives["auto"]
    seconds = statistics.median(life.first_answer_seconds for life in chosen)
    share = max(life.serving_peak for life in chosen) / weights
    goals = [
        Goal(f"{NAME}: seconds from the start of loading to the answer", seconds, GOAL_SECONDS),
        Goal(f"{NAME}: memory at its peak over weights", share, GOAL_SHARE_OF_WEIGHTS),
    ]
    if served is not None:
        what = f"{NAME}: memory of the service's runner (PSS) over weights"
        goals.append(Goal(what, served.proportional / weights, GOAL_SHARE_OF_WEIGHTS))
    text = write_report(
        "heavy_model",
        "A heavy model: first answer and memory",
        command_line(MODULE),
        [goals_table(goals), seconds_table(lives), memory_table(lives, served, weights)],
        notes(weights, options.rounds),
        measured_on=measured_on,
        directory=options.results,
    )
    print(text)
    return exit_code(goals)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes a runtime (5)")
    parser.add_argument("--small", action="store_true", help="a network of a few layers")
    parser.add_argument("--no-service", action="store_true", help="without `bandstand serve`")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    return parser.parse_args()


def install(repository: ModelRepository, *, small: bool) -> int:
    """Export a checkpoint of random weights, install it, and return its weights' bytes."""
    from bandstand_exporters import ast_classifier  # torch, which the fresh processes do without
    from bandstand_exporters.cut import write_host_form
    from harness.transformers_checkpoints import SMALL_AST, write_ast

    print("exporting", file=sys.stderr)
    with tempfile.TemporaryDirectory() as directory:
        card, folder = get_card(NAME), Path(directory) / "checkpoint"
        graph = Path(directory) / MODEL_FILE
        write_ast(folder, **(SMALL_AST if small else {}))
        source = ast_classifier.open_source(card, folder)
        source.write_onnx(graph)
        files: dict[str, Path | bytes] = {**write_host_form(card, graph)}
        repository.install(card.with_labels(source.labels), files | {MODEL_FILE: graph})
        return (folder / "model.safetensors").stat().st_size


def served_memory(repository: Path, log: Path) -> ProcessMemory:
    """Return what the runner's process of `bandstand serve` holds when it has warmed up."""
    with serving(log, repository=repository) as server:
        return memory_of(server.worker(f"runner_{NAME}"))


def seconds_table(lives: Mapping[Runtime, Sequence[Life]]) -> Table:
    """Return the medians of each step, a row a runtime."""
    rows: list[tuple[str | float, ...]] = []
    for found in lives.values():
        steps = [
            (life.start_seconds, life.load_seconds, life.answer_seconds, life.first_answer_seconds)
            for life in found
        ]
        medians = [round(float(value), 2) for value in np.median(steps, axis=0)]
        slowest = round(max(life.first_answer_seconds for life in found), 2)
        rows.append((found[0].runtime, *medians, slowest))
    columns = ("", "process start", "loading", "first answer", "loading and answer", "the slowest")
    return Table("Seconds, medians", columns, rows)


def memory_table(
    lives: Mapping[Runtime, Sequence[Life]], served: ProcessMemory | None, weights: int
) -> Table:
    """Return the most that any round took, a row a runtime, and what the service's runner holds."""
    rows: list[tuple[str | float, ...]] = []
    for found in lives.values():
        most = [
            max(life.loading_peak for life in found),
            max(life.serving_peak for life in found),
            *(max(getattr(life.held, kind) for life in found) for kind in ProcessMemory.__slots__),
        ]
        shown = [round(value / MEBI) for value in most]
        rows.append((found[0].runtime, *shown, round(most[1] / weights, 2)))
    if served is not None:
        figures = (served.resident, served.proportional, served.unique)
        shown = [round(value / MEBI) for value in figures]
        share = round(served.proportional / weights, 2)
        rows.append(("bandstand serve: runner", "", "", *shown, share))
    peaks = ("peak until the first answer", "peak while answering")
    after = ("RSS after that", "PSS", "USS", "over weights")
    return Table("Memory of the whole process (MiB)", ("", *peaks, *after), rows)


def notes(weights: int, rounds: int) -> list[str]:
    """Return how it was measured."""
    card = get_card(NAME)
    return [
        f"Weights: {weights / MEBI:.0f} MiB, the checkpoint's float32 file; random and seeded.",
        f"{rounds} fresh processes a runtime, in turns, without torch and transformers; the "
        "model's file is in the system's file cache. The start of the process, imports included, "
        "is not in the goal's seconds.",
        "Memory is that of the whole process: interpreter and libraries too. Peaks are RSS "
        "(`VmHWM`), the second one set back after the first answer and taken over single windows "
        f"and a batch of {card.batch.max_size}. Over weights: that peak; for the service, PSS, "
        "since its processes share their libraries.",
        "What OpenVINO packs in bfloat16 it packs from a mapped temporary file, whose pages are "
        "given back then; the system may keep them in its file cache, which is no process's.",
        "bandstand serve: the runner's own process, ready, after the inference of its warm-up.",
    ]


if __name__ == "__main__":
    sys.exit(main())
