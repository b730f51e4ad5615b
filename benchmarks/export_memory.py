"""Peak memory and time of every model's export with its proof; CPU time of all small ones.

Each card is exported in a process of its own, from real weights where the data folder has them, and
else from a checkpoint of the real size with random weights. Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bandstand.models.repository import ModelRepository
from benchmarks.exporting import exported, real_weights
from benchmarks.goals import Goal, exit_code, goals_table
from benchmarks.processes import stop_what_was_started_on_sigterm
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from harness.cards import get_card, load_cards
from harness.transformers_checkpoints import write_ast, write_hubert, write_wav2vec2

MODULE = "benchmarks.export_memory"
GOAL_GIGABYTES = 6.0
GOAL_CPU_SECONDS = 60.0
"""Of the small models, those that share a runner process, exported by one command."""
GIGA = 1e9
REAL, RANDOM, SHIPPED = "real", "random, real size", "shipped"


def _mel_cnn(folder: Path) -> Path:
    from harness.cnn_checkpoints import write_mel_cnn  # torch, which this process does without

    return write_mel_cnn(folder)


def _ccmusic(folder: Path) -> Path:
    from harness.cnn_checkpoints import vgg19, write_image_network

    return write_image_network(folder / "save.pt", vgg19())


RANDOM_CHECKPOINTS: dict[str, Callable[[Path], Path]] = {
    "genre_cnn": _mel_cnn,
    "genre_ccmusic": _ccmusic,
    "genre_wav2vec2": write_wav2vec2,
    "genre_hubert": write_hubert,
    "instruments_ast": write_ast,
}


@dataclass(frozen=True, slots=True)
class Export:
    """What one export took.

    Attributes:
        weights: whose.
        peak_bytes: largest memory of its process.
        export_seconds: of writing the graph.
        proof_seconds: of proving it.
        seconds: of the whole command.
        cpu_seconds: of all its processes.
        model_bytes: of the ONNX file.
    """

    weights: str
    peak_bytes: int
    export_seconds: float
    proof_seconds: float
    seconds: float
    cpu_seconds: float
    model_bytes: int


def main() -> int:
    """Measure, print and write the report; return 1 if a goal is missed."""
    stop_what_was_started_on_sigterm()
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--only", choices=load_cards(), action="append", help="repeatable")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    options = parser.parse_args()
    measured_on = machine()
    found: dict[str, Export] = {}
    left_out = []
    for name in options.only or load_cards():
        weights = weights_of(name)
        if weights is None:
            left_out.append(name)
        else:
            found[name] = export(name, weights)
    goals = [
        Goal(f"{name}: peak memory (GB)", one.peak_bytes / GIGA, GOAL_GIGABYTES)
        for name, one in found.items()
    ]
    small = [name for name, one in found.items() if one.weights != RANDOM and is_small(name)]
    if not options.only:
        goals.append(together(small))
    text = write_report(
        "export_memory",
        "What exports take",
        command_line(MODULE),
        [goals_table(goals), exports_table(found)],
        notes(left_out),
        measured_on=measured_on,
        directory=options.results,
    )
    print(text)
    return exit_code(goals)


def is_small(name: str) -> bool:
    """Return whether a model shares a runner process when it is served."""
    return get_card(name).runner != "own"


def together(names: list[str]) -> Goal:
    """Export all models whose checkpoints are here by one command."""
    with tempfile.TemporaryDirectory() as directory:
        repository = ModelRepository(Path(directory) / "models")
        seconds = exported("--all", repository)
        installed = set(repository.names())
    if installed != set(names):
        raise RuntimeError(f"exported {sorted(installed)} instead of {names}: empty the cache")
    return Goal(f"{', '.join(names)}, by one command: CPU (s)", seconds, GOAL_CPU_SECONDS)


def weights_of(name: str) -> str | None:
    """Return whose weights a card can be exported with here; None: nobody's."""
    card = get_card(name)
    if card.embedded:
        return SHIPPED
    try:
        real_weights(card)
    except FileNotFoundError:
        return RANDOM if name in RANDOM_CHECKPOINTS else None
    return REAL


def export(name: str, weights: str) -> Export:
    """Export a card in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        repository = ModelRepository(Path(directory) / "models")
        checkpoint: tuple[str, ...] = ()
        if weights == RANDOM:
            folder = Path(directory) / "checkpoint"
            folder.mkdir()
            written = _elsewhere(RANDOM_CHECKPOINTS[name], folder)
            checkpoint = ("--checkpoint", str(written), "--allow-unverified")
        started = time.perf_counter()
        cpu_seconds = exported(name, repository, checkpoint)
        seconds = time.perf_counter() - started
        report = repository.report(name, repository.latest(name).version)
    return Export(
        weights=weights,
        peak_bytes=report["peak_memory_bytes"],
        export_seconds=report["export_seconds"],
        proof_seconds=report["proof_seconds"],
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        model_bytes=report["model_bytes"],
    )


def _elsewhere(write: Callable[[Path], Path], folder: Path) -> Path:
    """Write a checkpoint in another process: what is started from a large one counts as large."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(write, folder).result()


def exports_table(found: dict[str, Export]) -> Table:
    """Return one row a model."""
    rows: list[tuple[str | float, ...]] = [
        (
            name,
            one.weights,
            round(one.peak_bytes / GIGA, 2),
            *(round(s, 1) for s in (one.export_seconds, one.proof_seconds)),
            *(round(s, 1) for s in (one.seconds, one.cpu_seconds)),
            round(one.model_bytes / 1e6, 1),
        )
        for name, one in found.items()
    ]
    columns = ("", "weights", "peak memory (GB)", "graph (s)", "proof (s)", "whole command (s)")
    return Table("Exports", (*columns, "whole command (CPU s)", "model (MB)"), rows)


def notes(left_out: list[str]) -> list[str]:
    """Return how it was measured."""
    lines = [
        "`bandstand models export`, one after the other; the peak is that of the exporting process "
        "(`ru_maxrss`), imports of the source framework included, as its report has it.",
        "Random weights are seeded, and of the sizes of the published checkpoints.",
    ]
    if left_out:
        lines.append(f"Without a checkpoint here, and left out: {', '.join(left_out)}.")
    return lines


if __name__ == "__main__":
    sys.exit(main())
