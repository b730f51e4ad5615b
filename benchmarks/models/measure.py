"""Measure installed models: their reports, their speed here, and their answers for recordings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np

from bandstand.audio.decode import DecodeLimits
from bandstand.frontends.librosa_features import extract_features
from bandstand.models.card import Card, Task
from bandstand.models.installed import InstalledModel
from bandstand.models.precision import WeightPrecision
from bandstand.models.repository import ModelRepository
from bandstand.pipelines.model_output import activate
from bandstand.pipelines.prepare import prepare
from bandstand.runners.base import Array, FloatArray, Runner
from bandstand.runners.cores import has_bf16
from bandstand.runners.load import load_runner
from bandstand.settings import get_settings
from bandstand_exporters.example_windows import example_windows
from benchmarks.models.results import (
    Answer,
    ExportResult,
    MeasuredOn,
    ModelResult,
    Speed,
    Weights,
)
from benchmarks.report import machine
from harness.recordings import wav

BATCH = 8
WARM_UPS = 2
LABELS_SHOWN: dict[Task, int] = {"genre": 3, "tags": 5, "instruments": 5}
"""Of each recording; other tasks are not asked about whole recordings."""
SILENCE = "silence"


def measure(
    name: str,
    repository: ModelRepository,
    recordings: Sequence[Path],
    *,
    rounds: int,
    random_weights: bool = False,
) -> ModelResult:
    """Measure the newest installed version of each precision.

    Args:
        name: of a model that is installed.
        repository: where.
        recordings: those it is asked about.
        rounds: calls that are timed.
        random_weights: it was exported from a checkpoint of random weights.

    Raises:
        BandstandError: it cannot be loaded, or a recording cannot be decoded.
    """
    hardware = _here()
    newest = _newest_by_precision(name, repository)
    exports: list[ExportResult] = []
    answers: tuple[Answer, ...] = ()
    for installed in newest.values():
        card = installed.card()
        report = repository.report(name, installed.version)
        weights = _weights(card, report, random_weights=random_weights)
        runner = load_runner(card, installed.model_path)
        try:
            exports.append(_export_result(report, weights, _speed(runner, rounds)))
            if not answers and weights == "card" and card.task in LABELS_SHOWN:
                answers = tuple(_answers(runner, recordings))
        finally:
            runner.close()
    return ModelResult(hardware, tuple(exports), answers)


def _here() -> MeasuredOn:
    hardware: dict[str, Any] = machine()
    return MeasuredOn(
        date=datetime.now(UTC).date().isoformat(),
        cpu=hardware["cpu"],
        cores=hardware["cores"],
        has_bf16=has_bf16(),
        load_average=hardware["load_average"][0],
    )


def _newest_by_precision(
    name: str, repository: ModelRepository
) -> dict[WeightPrecision, InstalledModel]:
    found = {
        repository.report(name, version).get("precision", "fp32"): version
        for version in repository.versions(name)
    }
    return {
        precision: repository.installed(name, found[precision])
        for precision in get_args(WeightPrecision)
        if precision in found
    }


def _weights(card: Card, report: dict[str, Any], *, random_weights: bool) -> Weights:
    if random_weights:
        return "random"
    return "card" if report["source_sha256"] == card.source.sha256 else "other"


def _export_result(report: dict[str, Any], weights: Weights, speed: Speed) -> ExportResult:
    proof = report["proof"]
    of_source, of_batch = (
        max(proof[kind].values(), key=lambda difference: difference["tolerance_used"])
        for kind in ("source_difference", "batch_difference")
    )
    return ExportResult(
        precision=report.get("precision", "fp32"),
        weights=weights,
        model_bytes=report["model_bytes"],
        examples=proof["examples"],
        source_absolute=of_source["absolute"],
        source_relative=of_source["relative"],
        batch_absolute=of_batch["absolute"],
        export_seconds=report["export_seconds"],
        proof_seconds=report["proof_seconds"],
        peak_memory_bytes=report.get("peak_memory_bytes"),
        speed=speed,
    )


def _speed(runner: Runner, rounds: int) -> Speed:
    card = runner.card
    (windows,) = example_windows(card, per_recording=1).inputs.values()
    wall, cpu = _fastest(lambda: _logits(runner, windows[:1]), rounds)
    batch_wall, _ = _fastest(lambda: _logits(runner, windows[:BATCH]), rounds)
    return Speed(
        runtime=runner.info.runtime,
        arithmetic=runner.info.precision,
        threads=runner.info.threads,
        milliseconds=round(wall * 1e3, 3),
        cpu_milliseconds=round(cpu * 1e3, 3),
        batch=BATCH,
        batch_milliseconds=round(batch_wall / BATCH * 1e3, 3),
    )


def _logits(runner: Runner, windows: FloatArray) -> Array:
    card = runner.card
    rows: Array = windows
    if card.front_end.kind == "librosa_features":  # the one front end that no graph holds
        rows = np.stack([extract_features(window) for window in windows])
    return runner.run({card.inputs[0].name: rows})[card.outputs[0].name]


def _fastest(call: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the fewest seconds of a call, and of CPU time in one: others may be at work here."""
    for _ in range(WARM_UPS):
        call()
    wall, cpu = [], []
    for _ in range(rounds):
        started, worked = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - worked)
    return min(wall), min(cpu)


def _answers(runner: Runner, recordings: Sequence[Path]) -> Iterator[Answer]:
    for path in recordings:
        yield Answer(path.stem, whole_recording(runner, path.read_bytes()))
    yield Answer(SILENCE, whole_recording(runner, _silence(runner.card)))


def whole_recording(runner: Runner, audio: bytes) -> dict[str, float]:
    """Return the likeliest labels of encoded audio, best first, with their probabilities.

    Windows count by the audio in them, as in the pipelines.
    """
    card = runner.card
    limits = DecodeLimits.from_settings(get_settings())
    prepared = prepare(audio, (card,), limits).of(card)
    (rows,) = prepared.inputs.values()
    size = card.batch.max_size
    parts = [
        runner.run({card.inputs[0].name: rows[start : start + size]})[card.outputs[0].name]
        for start in range(0, len(rows), size)
    ]
    probabilities = activate(card, np.concatenate(parts))
    scores = np.average(probabilities, axis=0, weights=prepared.durations_seconds)
    best = np.argsort(-scores, kind="stable")[: LABELS_SHOWN[card.task]]
    return {card.labels[label]: round(float(scores[label]), 4) for label in best}


def _silence(card: Card) -> bytes:
    return wav(np.zeros(card.window.samples), card.window.sample_rate)
