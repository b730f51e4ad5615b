"""CPU time and memory of the feature front end against the plain librosa calls.

Both run in this process, in turns, on the first 30 s of a real recording.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np

from bandstand.frontends.librosa_features import FEATURE_NAMES, SAMPLE_RATE, extract_features
from bandstand.settings import get_settings
from benchmarks.report import Table, machine, write_report
from harness.librosa_calls import features_one_by_one

COMMAND = "python -m benchmarks.features"
SECONDS = 30.0
WARM_UPS = 2

Extractor = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Measure, print and write the report."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=9)
    rounds = arguments.parse_args().rounds
    measured_on = machine()
    clips = sorted((get_settings().data_dir / "audio").glob("*.ogg"))
    loaded = {path: librosa.load(path, sr=SAMPLE_RATE, duration=SECONDS)[0] for path in clips}
    timed = next(path for path, samples in loaded.items() if len(samples) >= SECONDS * SAMPLE_RATE)
    times = time_in_turns(
        {"bandstand": extract_features, "librosa": features_one_by_one}, loaded[timed], rounds
    )
    tables = [
        timing_table(times, loaded[timed]),
        difference_table(loaded),
    ]
    notes = [
        f"{rounds} rounds of each in turns (A B A B …) after {WARM_UPS} warm-ups, on the first "
        f"{SECONDS:g} s of {timed.name}.",
        "CPU seconds are `time.process_time`: user and system time of all threads of the process.",
        "Peak memory is what numpy and scipy arrays hold at once beyond the waveform "
        "(`tracemalloc`), in a run of its own.",
        "librosa: its calls one by one with their defaults, each making its own spectrum "
        "(`tests/librosa_calls.py`).",
    ]
    title = "Audio features: CPU time of one 30 s clip"
    print(write_report("features", title, COMMAND, tables, notes, measured_on=measured_on))


def time_in_turns(
    extractors: dict[str, Extractor], samples: np.ndarray, rounds: int
) -> dict[str, list[float]]:
    """Return the CPU seconds of every round."""
    for _ in range(WARM_UPS):
        for extract in extractors.values():
            extract(samples)
    times: dict[str, list[float]] = {name: [] for name in extractors}
    for _ in range(rounds):
        for name, extract in extractors.items():
            start = time.process_time()
            extract(samples)
            times[name].append(time.process_time() - start)
    return times


def timing_table(times: dict[str, list[float]], samples: np.ndarray) -> Table:
    """Return one row an extractor; the ratio is that of the medians."""
    reference = statistics.median(times["librosa"])
    rows = []
    for name, extract in (("librosa", features_one_by_one), ("bandstand", extract_features)):
        median = statistics.median(times[name])
        rows.append(
            (
                name,
                *(round(1000 * t, 1) for t in (min(times[name]), median, max(times[name]))),
                round(median / reference, 4),
                round(peak_mebibytes(extract, samples), 1),
            )
        )
    columns = ("", "min (CPU ms)", "median", "max", "share of librosa's", "peak memory (MiB)")
    return Table("CPU time", columns, rows)


def peak_mebibytes(extract: Extractor, samples: np.ndarray) -> float:
    """Return the most memory held at once while extracting."""
    tracemalloc.start()
    extract(samples)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20


def difference_table(loaded: dict[Path, np.ndarray]) -> Table:
    """Return the largest relative difference of every feature over all recordings."""
    differences = []
    for samples in loaded.values():
        theirs = features_one_by_one(samples)
        differences.append(np.abs(extract_features(samples) - theirs) / np.abs(theirs))
    largest = np.max(differences, axis=0)
    rows = [(name, f"{value:.1e}") for name, value in zip(FEATURE_NAMES, largest, strict=True)]
    title = f"Largest relative difference from librosa on {len(loaded)} real recordings"
    return Table(title, ("feature", "difference"), rows)


if __name__ == "__main__":
    main()
