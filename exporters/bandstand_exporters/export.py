"""From a card to an installed model: open the source, export, prove, install with its report."""

from __future__ import annotations

import importlib
import json
import platform
import re
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import requires, version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import cast

import numpy as np

from bandstand.errors import CardError, RepositoryError, UnavailableError
from bandstand.models.card import Card, Source
from bandstand.models.installed import MODEL_FILE, REPORT_FILE
from bandstand.models.precision import WeightPrecision
from bandstand.models.repository import ModelRepository
from bandstand.models.source import SourceCache, sha256_of, source_files, source_sha256
from bandstand.runners.denormals import denormals_are_zero
from bandstand_exporters.cut import has_host_form, prove_cut, write_host_form
from bandstand_exporters.denormals import prove_zeros, zero_denormals
from bandstand_exporters.precision import lower, lowered_card
from bandstand_exporters.proof import Proof, answers_of, prove
from bandstand_exporters.source_model import Exporter
from bandstand_exporters.traces import remove_traces
from bandstand_exporters.weights import model_files

PACKAGES = ("bandstand", "numpy", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Report:
    """The content of a version's `report.json`.

    Attributes:
        card: its name.
        source_uri: where the checkpoint is from, without credentials.
        created: date and time, UTC, ISO 8601.
        source_sha256: of the checkpoint it was made from.
        model_sha256: of the ONNX file, followed by the file of weights where there is one:
            `cat model.onnx weights.bin | sha256sum`.
        model_bytes: of both.
        examples: description of the inputs of the proof.
        framework: of the checkpoint, for the comparison.
        precision: of the weights.
        denormals_zeroed: how many weights of the checkpoint are denormal numbers; they are zero in
            the graph.
        versions: of Python and the packages.
        peak_memory_bytes: largest memory of the exporting process, in which other models may have
            been exported before.
    """

    card: str
    created: str
    source_uri: str
    source_sha256: str
    source_bytes: int
    model_sha256: str
    model_bytes: int
    examples: str
    framework: str
    precision: WeightPrecision
    denormals_zeroed: int
    versions: dict[str, str]
    export_seconds: float
    proof_seconds: float
    peak_memory_bytes: int
    proof: Proof

    def to_json(self) -> bytes:
        """Return the content of `report.json`."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Exported:
    """An installed model: its version number and its report."""

    version: int
    report: Report


def export(
    card: Card,
    repository: ModelRepository,
    cache: SourceCache,
    *,
    checkpoint: Source | None = None,
    precision: WeightPrecision = "fp32",
    on_step: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Export the model of a card and install it as a new version.

    Args:
        card: of the model.
        repository: receives the new version; its card has the checkpoint's labels, the tolerance
            of its precision, and the address of its source without credentials.
        cache: of checkpoints.
        checkpoint: its source, instead of the card's.
        precision: of the weights; a smaller one has a larger tolerance.
        on_step: called with a description of each step.

    Raises:
        CardError: no exporter for its architecture.
        UnavailableError: a package that the export needs is not installed.
        SourceError: the checkpoint cannot be read.
        ChecksumError: its hash is not the card's.
        CheckpointError: it is not of the card's architecture, or is damaged.
        ModelMismatchError: the export does not fit the card or the source; nothing is installed.
        RepositoryError: the repository, or a temporary file, cannot be written.
    """
    checkpoint = checkpoint or card.source
    on_step("opening the checkpoint")
    path = cache.resolve(checkpoint)
    with _extras_needed(card), tempfile.TemporaryDirectory() as directory:
        source = _exporter(card).open_source(card, path)
        files: dict[str, Path | bytes] = {}
        if not card.labels:
            card = card.with_labels(source.labels)
        examples = source.examples()
        model_path = Path(directory) / MODEL_FILE
        host_form = has_host_form(card) and precision == "fp32"
        on_step("writing the graph")
        with _timed() as export_seconds, _disk_needed(directory):
            source.write_onnx(model_path)
            remove_traces(model_path)
            zeroed = zero_denormals(model_path)
            if host_form:  # before the proof, which uses the installed files
                files |= write_host_form(card, model_path)
        on_step("proving it against its source")
        with _timed() as proof_seconds:
            if zeroed:
                prove_zeros(card, model_path, source, examples.inputs)
            with denormals_are_zero():
                wanted = answers_of(source, examples.inputs)
                proof = prove(card, model_path, source, examples.inputs, wanted)
                if host_form:
                    prove_cut(card, model_path, examples.inputs, wanted)
        if precision != "fp32":
            on_step(f"lowering it to {precision}, and proving that")
            with _disk_needed(directory):
                lower(model_path, precision)
            with denormals_are_zero():
                largest_logit = float(np.abs(wanted[card.outputs[0].name]).max())
                card = lowered_card(card, precision, largest_logit)
                proof = prove(card, model_path, source, examples.inputs, wanted)
        seen = source_sha256(checkpoint, path)
        report = Report(
            card=card.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            source_uri=(card.source if seen == card.source.sha256 else checkpoint).shown,
            source_sha256=seen,
            source_bytes=sum(file.stat().st_size for file in source_files(checkpoint, path)),
            model_sha256=sha256_of(*model_files(model_path)),
            model_bytes=sum(file.stat().st_size for file in model_files(model_path)),
            examples=examples.description,
            framework=source.framework,
            precision=precision,
            denormals_zeroed=zeroed,
            versions=_versions(),
            export_seconds=export_seconds[0],
            proof_seconds=proof_seconds[0],
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            proof=proof,
        )
        on_step("installing it")
        files |= {MODEL_FILE: model_path, REPORT_FILE: report.to_json()}
        public = card.model_copy(update={"source": card.source.without_credentials()})
        installed = repository.install(public, files)
        if find_spec("tritonclient") is not None:  # else `bandstand triton` does it
            from bandstand.triton.config import write_config

            write_config(repository, card.name)
        return Exported(installed, report)


def _versions() -> dict[str, str]:
    packages = {package: version(package) for package in PACKAGES}
    return {"python": platform.python_version(), **packages}


@contextmanager
def _extras_needed(card: Card) -> Iterator[None]:
    """Raise an error that names the extra of Bandstand with a missing package."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = _extra_with(package)
        raise UnavailableError(
            f"exporting {card.name} needs {package}: pip install 'bandstand[{extra}]'"
        ) from error


def _extra_with(package: str) -> str:
    """Return the extra that contains a package."""
    for requirement in requires("bandstand") or []:
        found = re.match(rf"{re.escape(package)}\b.*extra == ['\"](\w+)['\"]", requirement)
        if found and found[1] != "dev":
            return found[1]
    return "export"


@contextmanager
def _disk_needed(directory: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RepositoryError(
            f"could not write to {directory}: {error.strerror or error}; free some space, or set "
            "TMPDIR to where there is some"
        ) from error


def _exporter(card: Card) -> Exporter:
    name = f"bandstand_exporters.{card.architecture}"
    try:
        return cast("Exporter", importlib.import_module(name))
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise CardError(
            f"{card.name}: no exporter for the architecture {card.architecture!r}"
        ) from error


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Yield a list that holds the seconds it took when the block has ended."""
    seconds: list[float] = []
    started = perf_counter()
    yield seconds
    seconds.append(round(perf_counter() - started, 3))
