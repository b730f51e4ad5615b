"""The one protocol between a model and everything that uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bandstand.models.card import Card

Array = NDArray[Any]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RunnerInfo:
    """What runs a model, for `/models` and the logs."""

    runtime: str
    runtime_version: str
    precision: str
    threads: int
    device: str = "cpu"


class Runner(Protocol):
    """A loaded model. Safe to call from several threads.

    A batch is an array per input, batch axis first: `(n, *tensor.shape)` with the card's dtypes.
    """

    @property
    def card(self) -> Card:
        """The card it was loaded for and checked against."""
        ...

    @property
    def info(self) -> RunnerInfo:
        """Runtime, version, precision, threads."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs of one batch.

        Raises:
            UnusableRequestError: names, shapes or dtypes that the card does not have.
        """
        ...

    def close(self) -> None:
        """Let go of the model's memory."""
        ...
