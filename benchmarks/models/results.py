"""Results of models that were installed where they were measured, kept for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from bandstand.models.precision import WeightPrecision
from benchmarks.report import RESULTS

RESULTS_FILE = RESULTS / "models.json"

Weights = Literal["card", "random", "other"]
"""Of the checkpoint that the card promises; random ones of the real size; of any other."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What one window takes, from samples to logits, in the runtime that is chosen by itself.

    All of the fastest call.

    Attributes:
        runtime: `onnxruntime` or `openvino`.
        arithmetic: what it computes in.
        milliseconds: wall time of a window that is alone.
        cpu_milliseconds: CPU time of that, all threads together.
        batch: windows of a batch.
        batch_milliseconds: wall time of a window in such a batch.
    """

    runtime: str
    arithmetic: str
    threads: int
    milliseconds: float
    cpu_milliseconds: float
    batch: int
    batch_milliseconds: float


@dataclass(frozen=True, slots=True)
class ExportResult:
    """One installed version: what its report proves, and how fast it is here.

    Attributes:
        examples: inputs it was compared on; the best label of every one is the source's, since an
            export is refused otherwise.
        source_absolute: largest difference from the source's logits.
        source_relative: the same over the largest logit of its row.
        batch_absolute: largest difference of a row in a batch from the same row alone.
        peak_memory_bytes: of the exporting process; None: its report does not say.
    """

    precision: WeightPrecision
    weights: Weights
    model_bytes: int
    examples: int
    source_absolute: float
    source_relative: float
    batch_absolute: float
    export_seconds: float
    proof_seconds: float
    peak_memory_bytes: int | None
    speed: Speed


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says of a recording: its likeliest labels and their probabilities."""

    recording: str
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class MeasuredOn:
    """Where and when; `load_average` is that of the minute before."""

    date: str
    cpu: str
    cores: int
    has_bf16: bool
    load_average: float


@dataclass(frozen=True, slots=True)
class ModelResult:
    """Everything measured of one model; no answers where the weights mean nothing."""

    measured_on: MeasuredOn
    exports: tuple[ExportResult, ...]
    answers: tuple[Answer, ...]


_RESULTS = TypeAdapter(dict[str, ModelResult])


def read_results(path: Path = RESULTS_FILE) -> dict[str, ModelResult]:
    """Return the results by model; none where there is no file.

    Raises:
        pydantic.ValidationError: it holds something else.
    """
    return _RESULTS.validate_json(path.read_bytes()) if path.exists() else {}


def write_results(results: Mapping[str, ModelResult], path: Path = RESULTS_FILE) -> None:
    """Write the results, sorted by model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_RESULTS.dump_json(dict(sorted(results.items())), indent=2) + b"\n")
