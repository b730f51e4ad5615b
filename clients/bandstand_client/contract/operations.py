"""All operations on audio; a client that inherits from `Operations` has a method for each."""

from __future__ import annotations

from typing import Any

from bandstand_client.contract.declaration import Operation
from bandstand_client.contract.features import ANALYZE_FEATURES
from bandstand_client.contract.genre import CLASSIFY
from bandstand_client.contract.instruments import DETECT_INSTRUMENTS


class Operations:
    """The operations as methods: the audio, then the operation's options by name."""

    classify = CLASSIFY
    detect_instruments = DETECT_INSTRUMENTS
    analyze_features = ANALYZE_FEATURES


OPERATIONS: tuple[Operation[..., Any], ...] = tuple(
    value for value in vars(Operations).values() if isinstance(value, Operation)
)
"""All operations, in the order of the documentation."""
