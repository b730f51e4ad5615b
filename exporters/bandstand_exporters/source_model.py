"""The interface of exporters: a checkpoint that is opened in its own framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bandstand.models.card import Card
from bandstand.runners.base import Array


@dataclass(frozen=True, slots=True)
class Examples:
    """Real inputs to prove an export with.

    Attributes:
        inputs: an array per input of the card, `(n, *shape)`, n at least 8.
        description: where they are from, for the report.
    """

    inputs: Mapping[str, Array]
    description: str


class SourceModel(Protocol):
    """A checkpoint in the framework that it was trained in."""

    @property
    def framework(self) -> str:
        """The framework and its version, as in `torch 2.13.0`."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the checkpoint has."""
        ...

    def examples(self) -> Examples:
        """Return real inputs."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs in the source framework, by the card's names."""
        ...

    def write_onnx(self, path: Path) -> None:
        """Export to one ONNX file with the batch axis dynamic and called `batch`."""
        ...


class Exporter(Protocol):
    """A module of this package with the name of its architecture."""

    def open_source(self, card: Card, checkpoint: Path) -> SourceModel:
        """Open a checkpoint; raises `CheckpointError` for one that is not of this architecture."""
        ...
