"""From a card to an installed model: open the source, export, prove, install with its report."""

from __future__ import annotations

import importlib
import json
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import cast

from bandstand.errors import CardError
from bandstand.models.card import Card
from bandstand.models.repository import MODEL_FILE, REPORT_FILE, ModelRepository
from bandstand.models.source import SourceCache, sha256_of
from exporters.proof import Proof, prove
from exporters.source_model import Exporter
from exporters.traces import remove_traces

PACKAGES = ("bandstand", "numpy", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Report:
    """What stays beside an exported model as `report.json`.

    Attributes:
        card: its name.
        created: date and time, UTC, ISO 8601.
        source_sha256: of the checkpoint it was made from.
        model_sha256: of the ONNX file.
        examples: the inputs that it was proven with, in words.
        framework: what the checkpoint ran in for the comparison.
        versions: of Python and the packages that took part.
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
    versions: dict[str, str]
    export_seconds: float
    proof_seconds: float
    proof: Proof

    def to_json(self) -> bytes:
        """Return the content of `report.json`."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Exported:
    """An installed model: its version number and its report."""

    version: int
    report: Report


def export(card: Card, repository: ModelRepository, cache: SourceCache) -> Exported:
    """Export the model of a card and install it as a new version.

    Raises:
        CardError: no exporter for its architecture.
        SourceError: the checkpoint cannot be read.
        ChecksumError: it is not what the card promises.
        CheckpointError: it is not of the card's architecture, or is damaged.
        ModelMismatchError: the export does not fit the card or the source; nothing is installed.
        RepositoryError: the repository cannot be written.
    """
    exporter = _exporter(card)
    checkpoint = cache.resolve(card.source)
    source = exporter.open_source(card, checkpoint)
    examples = source.examples()
    with tempfile.TemporaryDirectory() as directory:
        model_path = Path(directory) / MODEL_FILE
        with _timed() as export_seconds:
            source.write_onnx(model_path)
            remove_traces(model_path)
        with _timed() as proof_seconds:
            proof = prove(card, model_path, source, examples.inputs)
        report = Report(
            card=card.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            source_uri=card.source.uri,
            source_sha256=sha256_of(checkpoint),
            source_bytes=checkpoint.stat().st_size,
            model_sha256=sha256_of(model_path),
            model_bytes=model_path.stat().st_size,
            examples=examples.description,
            framework=source.framework,
            versions={
                "python": platform.python_version(),
                **{package: version(package) for package in PACKAGES},
            },
            export_seconds=export_seconds[0],
            proof_seconds=proof_seconds[0],
            proof=proof,
        )
        files: dict[str, Path | bytes] = {MODEL_FILE: model_path, REPORT_FILE: report.to_json()}
        return Exported(repository.install(card.name, files), report)


def _exporter(card: Card) -> Exporter:
    name = f"exporters.{card.architecture}"
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
