"""Gain of dynamic batching on Triton for a memory-bound model, and its cost for a single request.

The same network is served twice by one real Triton server, with and without dynamic batching, and
asked over gRPC in turns. Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import helper

from bandstand.models.card import Card
from bandstand.models.installed import MODEL_FILE
from bandstand.triton.config import CONFIG_FILE, LABEL_FILE, card_config, to_text
from bandstand.triton.server import TritonServer
from benchmarks.contenders import Contender, Turn
from benchmarks.goals import Goal, exit_code, goals_table, misses
from benchmarks.processes import stop_what_was_started_on_sigterm, wait_until_idle
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from benchmarks.triton_load import (
    ServedByTriton,
    TritonRequest,
    batch_sizes,
    processes,
    triton_as_it_is,
    triton_version,
)
from harness.small_graphs import card, save_graph, weight

MODULE = "benchmarks.triton_batching"
WIDTH = 2448
"""Of the three square layers: 72 MB of weights, more than the processor's caches hold."""
LAYERS = 3
MAX_BATCH = 16
CONCURRENCIES = (1, 4, 16)
_, FEW, CROWD = CONCURRENCIES
BATCHED, UNBATCHED = "batched", "unbatched"

LEAST_GAIN = 3.0
MOST_ADDED_MS = 1.0

Key = tuple[str, int]
Row = tuple[str | float, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One model at one concurrency, and the batches that it ran.

    Attributes:
        sizes: number of batches by their size, in the turns that count.
    """

    work: ServedByTriton
    sizes: Counter[int] = field(default_factory=Counter)

    def run(self, requests: int) -> Turn:
        """Ask, and have the server tell its batches."""
        before = batch_sizes(self.work.server, self.work.request.model)
        turn = self.work.run(requests)
        self.sizes.update(batch_sizes(self.work.server, self.work.request.model) - before)
        return turn


@dataclass(frozen=True, slots=True)
class Measured:
    """All turns of one model at one concurrency."""

    asked: Asked
    turns: Sequence[Turn]

    @property
    def per_second(self) -> float:
        """Requests a second, median of the turns."""
        return statistics.median(turn.per_second for turn in self.turns)

    def percentile_ms(self, share: float) -> float:
        """Return a percentile of the latency of all requests."""
        latencies = [latency for turn in self.turns for latency in turn.latencies]
        return 1e3 * float(np.percentile(latencies, share))

    @property
    def load_share(self) -> float:
        """Share of one core that the load generator took, median of the turns."""
        return statistics.median(turn.load_cpu_ms * turn.per_second / 1e3 for turn in self.turns)


def main() -> int:
    """Measure, print and write the report."""
    stop_what_was_started_on_sigterm()
    options = _options()
    measured_on = machine()
    with tempfile.TemporaryDirectory() as directory:
        repository = Path(directory)
        size = write_models(repository, options.width)
        with triton_as_it_is(repository) as server:
            wait_until_idle(processes(server))
            version = triton_version(server)
            measured = measure(server, options)
    goals = goals_of(measured)
    text = write_report(
        "triton_batching",
        f"Dynamic batching on Triton: {size / 1e6:.0f} MB of weights, over gRPC",
        command_line(MODULE),
        [goals_table(goals), rates_table(measured), batches_table(measured)],
        [*misses(goals), *notes(options, size, version)],
        measured_on=measured_on,
        directory=options.results,
    )
    print(text)
    return exit_code(goals)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of everybody (7)")
    parser.add_argument("--requests", type=int, default=1000, help="in a turn (1000)")
    parser.add_argument("--width", type=int, default=WIDTH, help=f"of the layers ({WIDTH})")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    return parser.parse_args()


def write_models(repository: Path, width: int) -> int:
    """Write the network twice, with the config of a card with and without its dynamic batching.

    Returns:
        The bytes of one.
    """
    first, second = (repository / name / "1" / MODEL_FILE for name in (BATCHED, UNBATCHED))
    for path in (first, second):
        path.parent.mkdir(parents=True)
    write_network(first, width)
    shutil.copy(first, second)
    for path in (first, second):
        folder = path.parents[1]
        card = network_card(folder.name, width)
        config = card_config(card)
        if folder.name == UNBATCHED:
            config.ClearField("dynamic_batching")
        (folder / CONFIG_FILE).write_text(to_text(config), encoding="utf-8")
        labels = "".join(f"{label}\n" for label in card.labels)
        (folder / LABEL_FILE).write_text(labels, encoding="utf-8")
    return first.stat().st_size


def network_card(name: str, width: int) -> Card:
    """Return the card of a row of `width` values to four logits."""
    return card((width,), name=name, batch={"max_size": MAX_BATCH})


def write_network(path: Path, width: int) -> None:
    """Write square layers with seeded weights, and one to the logits."""
    nodes, last = [], "x"
    weights = {f"w{number}": weight(number, width, width) for number in range(LAYERS)}
    for name in weights:
        nodes.append(helper.make_node("Gemm", [last, name], [f"h_{name}"], transB=1))
        nodes.append(helper.make_node("Relu", [f"h_{name}"], [f"r_{name}"]))
        last = f"r_{name}"
    weights["out"] = weight(LAYERS, 4, width)
    nodes.append(helper.make_node("Gemm", [last, "out"], ["logits"], transB=1))
    save_graph(path, nodes, weights, (width,))


def measure(server: TritonServer, options: argparse.Namespace) -> dict[Key, Measured]:
    """Ask both models at every concurrency, in turns."""
    row = np.random.default_rng(0).normal(size=(1, options.width)).astype(np.float32)
    contenders: dict[Key, tuple[Asked, Contender]] = {}
    for key in _keys():
        name, concurrency = key
        asked = Asked(ServedByTriton(server, TritonRequest(name, {"x": row}), concurrency))
        requests = turn_requests(name, concurrency, options.requests)
        contenders[key] = asked, Contender(asked, options.rounds, requests)
    for asked, contender in contenders.values():
        contender.warm_up()
        asked.sizes.clear()
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        for _, contender in contenders.values():
            contender.take_turn()
    return {key: Measured(asked, contender.turns) for key, (asked, contender) in contenders.items()}


def turn_requests(name: str, concurrency: int, requests: int) -> int:
    """Return how many requests make a turn; more where they are batched and so take less time."""
    return round(requests * math.sqrt(concurrency)) if name == BATCHED else requests


def _keys() -> Iterator[Key]:
    """Yield what is measured in the order of the turns, each beside what it is compared with."""
    return ((name, level) for level in CONCURRENCIES for name in (UNBATCHED, BATCHED))


def goals_of(measured: dict[Key, Measured]) -> list[Goal]:
    """Compare with what was promised."""
    together, apart = measured[BATCHED, CROWD], measured[UNBATCHED, CROWD]
    alone, plain = measured[BATCHED, 1], measured[UNBATCHED, 1]
    few, few_apart = measured[BATCHED, FEW], measured[UNBATCHED, FEW]
    return [
        Goal(
            f"concurrency {CROWD}: unbatched requests/s over batched",
            apart.per_second / together.per_second,
            1 / LEAST_GAIN,
        ),
        Goal(
            f"concurrency {CROWD}: batched p99 over unbatched",
            together.percentile_ms(99) / apart.percentile_ms(99),
            1.0,
        ),
        Goal(
            f"concurrency {FEW}: batched p99 over unbatched",
            few.percentile_ms(99) / few_apart.percentile_ms(99),
            1.0,
        ),
        Goal(
            "concurrency 1: ms that batching adds to the median",
            alone.percentile_ms(50) - plain.percentile_ms(50),
            MOST_ADDED_MS,
        ),
    ]


def rates_table(measured: dict[Key, Measured]) -> Table:
    """Return one row a model and concurrency."""
    rows: list[Row] = [
        (
            level,
            name,
            round(one.per_second, 1),
            *(round(one.percentile_ms(share), 2) for share in (50, 99)),
            round(statistics.median(turn.cpu_ms for turn in one.turns), 2),
            round(one.load_share, 2),
        )
        for (name, level), one in measured.items()
    ]
    columns = ("concurrency", "", "requests/s", "p50 (ms)", "p99 (ms)", "CPU ms a request")
    return Table(
        "Requests of one row over gRPC", (*columns, "load generator (share of a core)"), rows
    )


def batches_table(measured: dict[Key, Measured]) -> Table:
    """Return how many batches of each size the server says it ran."""
    sizes = sorted({size for one in measured.values() for size in one.asked.sizes})
    rows: list[Row] = [
        (level, name, *(one.asked.sizes[size] for size in sizes))
        for (name, level), one in measured.items()
    ]
    return Table("Batches run, by their size", ("concurrency", "", *map(str, sizes)), rows)


def notes(options: argparse.Namespace, size: int, version: str) -> list[str]:
    """Return how it was measured."""
    levels = ", ".join(map(str, CONCURRENCIES))
    together = [str(turn_requests(BATCHED, level, options.requests)) for level in CONCURRENCIES]
    return [
        f"{options.rounds} rounds; in each both models take a turn at concurrency {levels}: of "
        f"{options.requests} requests unbatched, of {', '.join(together)} batched. Rates are "
        "medians of the turns, percentiles are of all requests.",
        f"Triton {version}, one server for both models, on the cores that the load generator uses "
        "too; the stand-in for its onnxruntime backend, one instance with a thread a core.",
        f"The network: {LAYERS} square layers of {options.width} and four logits, {size / 1e6:.1f} "
        "MB of seeded float32 weights: alone, a row waits for the weights to come from memory.",
        "The configs are those that a card generates, with dynamic batching without a delay; the "
        "other is the same without it.",
        "The load generator is NVIDIA's tritonclient on asyncio, over one connection; with less "
        "than a core to itself it would be the bottleneck.",
    ]


if __name__ == "__main__":
    sys.exit(main())
