"""A new process that loads a model, computes, and prints its time and memory."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import psutil

from bandstand.runners.load import load_runner
from bandstand.settings import Runtime
from harness import PROJECT_ROOT
from harness.cards import get_card, load_cards

MODULE = "benchmarks.model_process"
CLEAR_PEAK = "5"
"""Written to `/proc/self/clear_refs`, it makes the process's peak what it holds now."""


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Memory of a whole process in bytes: interpreter, libraries, weights, buffers.

    Attributes:
        resident: all its pages in memory, shared libraries and mapped files among them (RSS).
        proportional: with its share only of the pages that others have too (PSS).
        unique: pages of this process alone (USS).
    """

    resident: int
    proportional: int
    unique: int


@dataclass(frozen=True, slots=True)
class Life:
    """The measurements of a process.

    Attributes:
        runtime: what computed, and in which arithmetic.
        start_seconds: from the start of the process until everything was imported.
        load_seconds: of `load_runner`.
        answer_seconds: of the first answer, one window.
        loading_peak: most bytes that were resident until then.
        serving_peak: most bytes that were resident while it answered more: single windows, and the
            largest batch that a runner gets.
        held: after that.
    """

    runtime: str
    start_seconds: float
    load_seconds: float
    answer_seconds: float
    loading_peak: int
    serving_peak: int
    held: ProcessMemory

    @property
    def first_answer_seconds(self) -> float:
        """From the start of loading."""
        return self.load_seconds + self.answer_seconds


def live(name: str, model_path: Path, runtime: Runtime) -> Life:
    """Load the model, answer, and say what it took."""
    start_seconds = time.time() - psutil.Process().create_time()
    card = get_card(name)
    clock = [time.perf_counter()]
    runner = load_runner(card, model_path, runtime=runtime)
    clock.append(time.perf_counter())
    (samples,) = card.inputs
    noise = np.random.default_rng(0).normal(0.0, 0.1, (card.batch.max_size, *samples.shape))
    windows = noise.astype(np.float32)
    runner.run({samples.name: windows[:1]})
    clock.append(time.perf_counter())
    loading_peak = _peak()
    Path("/proc/self/clear_refs").write_text(CLEAR_PEAK, encoding="ascii")
    for batch in (windows[:1], windows[1:2], windows):
        runner.run({samples.name: batch})
    loaded, answered = np.diff(clock).tolist()
    info = runner.info
    return Life(
        runtime=f"{info.runtime} {info.runtime_version}, {info.precision}",
        start_seconds=start_seconds,
        load_seconds=loaded,
        answer_seconds=answered,
        loading_peak=loading_peak,
        serving_peak=_peak(),
        held=memory_of(psutil.Process()),
    )


def _peak() -> int:
    """Return the most bytes that this process had in memory, of late (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kibibytes) * 1024


def memory_of(process: psutil.Process) -> ProcessMemory:
    """Return what a process holds just now."""
    memory = process.memory_full_info()
    return ProcessMemory(memory.rss, memory.pss, memory.uss)


def fresh_process(name: str, model_path: Path, runtime: Runtime) -> Life:
    """Have a process of its own load the model of a card and answer."""
    command = [sys.executable, "-m", MODULE, name, str(model_path), "--runtime", runtime]
    run = subprocess.run(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(run.stdout)
    return Life(**{**found, "held": ProcessMemory(**found["held"])})


def main() -> None:
    """Load, compute, and print the measurements."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("name", choices=load_cards(), help="the model's card")
    parser.add_argument("model", type=Path, help="its ONNX file")
    parser.add_argument("--runtime", choices=get_args(Runtime), default="auto")
    options = parser.parse_args()
    print(json.dumps(asdict(live(options.name, options.model, options.runtime))))


if __name__ == "__main__":
    main()
