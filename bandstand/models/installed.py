"""One version of a model on disk: its graph, its card, and the proof of its export."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bandstand.errors import ModelMismatchError
from bandstand.models.card import Card

MODEL_FILE = "model.onnx"
NETWORK_FILE = "network.onnx"
"""The graph that starts at `bandstand.models.card.FRONT_END_TENSOR`; not every version has it."""
CARD_FILE = "card.json"
REPORT_FILE = "report.json"


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """One version of one model; the files of a broken one may be missing.

    Attributes:
        folder: where its files are.
    """

    name: str
    version: int
    folder: Path

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL_FILE

    def card(self) -> Card:
        """Read the version's own card, with the labels of its checkpoint.

        Raises:
            ModelMismatchError: the version is broken: its card or its graph is missing, or the card
                is of another model or has no labels.
        """
        try:
            card = Card.model_validate_json((self.folder / CARD_FILE).read_bytes())
        except (OSError, ValidationError) as error:
            raise self._broken(f"no readable {CARD_FILE}: {error}") from error
        if card.name != self.name:
            raise self._broken(f"the card of {card.name!r}")
        if not card.labels:
            raise self._broken("a card without labels")
        if not self.model_path.is_file():
            raise self._broken(f"no {MODEL_FILE}")
        return card

    def report(self) -> dict[str, Any]:
        """Read the export's report.

        Raises:
            ModelMismatchError: it is missing or unreadable.
        """
        try:
            content = json.loads((self.folder / REPORT_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._broken(f"no readable {REPORT_FILE}: {error}") from error
        if not isinstance(content, dict):
            raise self._broken(f"a {REPORT_FILE} that is no JSON object")
        return content

    def _broken(self, what: str) -> ModelMismatchError:
        return ModelMismatchError(f"model {self.name!r} version {self.version} has {what}")


def card_file(card: Card) -> bytes:
    """Return the content of a version's card file; fields with their default value are left out."""
    return (card.model_dump_json(indent=2, exclude_defaults=True) + "\n").encode()
