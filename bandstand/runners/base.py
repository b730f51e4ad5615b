"""The interface of a runner."""

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
    """The runtime of a model, for `/models` and the logs."""

    runtime: str
    runtime_version: str
    precision: str
    threads: int
    device: str = "cpu"


class Runner(Protocol):
    """A loaded model. It may be called from several threads.

    A batch has one array for each input, batch axis first: `(n, *tensor.shape)` with the card's
    dtypes.
    """

    @property
    def card(self) -> Card:
        """The card that the model was compared with."""
        ...

    @property
    def info(self) -> RunnerInfo:
        """Runtime, version, precision, threads."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs of one batch.

        Raises:
            UnusableRequestError: the inputs do not match the card's names, shapes and dtypes.
        """
        ...

    def close(self) -> None:
        """Free the model's memory."""
        ...
