"""The presentation of each operation's answers in a terminal."""

from __future__ import annotations

from typing import Any

from bandstand_cli.presentation import PLAIN, Presentation
from bandstand_cli.presentations.features import FEATURES
from bandstand_cli.presentations.genre import GENRE
from bandstand_cli.presentations.instruments import INSTRUMENTS
from bandstand_client.contract.declaration import Operation

_BY_OPERATION: dict[str, Presentation[Any]] = {
    "classify": GENRE,
    "detect_instruments": INSTRUMENTS,
    "analyze_features": FEATURES,
}


def presentation_of(operation: Operation[..., Any]) -> Presentation[Any]:
    """Return the presentation of an operation's answers."""
    return _BY_OPERATION.get(operation.name, PLAIN)
