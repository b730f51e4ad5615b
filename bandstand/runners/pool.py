"""The interface of model pools: in this process, in runner processes, on a Triton server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from bandstand.errors import BandstandError
from bandstand.models.card import Card
from bandstand.runners.base import Array

Attempt = Callable[[], Awaitable[object]]
"""Sends a small request to a part; raises its error."""


class Model(Protocol):
    """A model that computes batches, in any process.

    Its version may change between two batches. Read `card` and `version` right after `infer`,
    before another `await`: they are those of the version that answered.
    """

    @property
    def card(self) -> Card:
        """The card, with the labels of that version."""
        ...

    @property
    def version(self) -> int:
        """The version that answered last."""
        ...

    async def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute one batch; see `bandstand.runners.base.Runner.run`."""
        ...


class PooledModel(Model, Protocol):
    """A model of a pool."""

    @property
    def runtime(self) -> str | None:
        """The runtime; None: not known yet."""
        ...


class ModelPool(Mapping[str, PooledModel], ABC):
    """The models by name, with their loading and unloading.

    A lookup does not wait. A model that a lookup returns can still refuse a batch, because it was
    unloaded meanwhile or cannot be loaded.
    """

    @property
    @abstractmethod
    def served(self) -> Mapping[str, PooledModel]:
        """The models that are currently served."""

    @property
    def failures(self) -> Mapping[str, BandstandError]:
        """The errors of models that could not be loaded, by name."""
        return {}

    @property
    def probes(self) -> Mapping[str, Attempt]:
        """The parts other than models that must work, by name."""
        return {}

    async def start(self) -> None:
        """Start to ask the servers regularly what they serve; they may still be starting."""
        return

    @abstractmethod
    async def load(self, name: str, version: int | None = None) -> None:
        """Serve a version from now on, and after a restart; None: the newest at that time.

        The previous version answers the requests that it has started.

        Raises:
            ModelNotFoundError, ModelNotInstalledError: there is no such model, or version.
            BandstandError: it cannot be loaded; the previous version is still served.
        """

    @abstractmethod
    async def unload(self, name: str) -> None:
        """Refuse new requests for a model; return when those in flight are answered.

        Raises:
            ModelNotFoundError, ModelNotInstalledError: there is no such model, or it is not served.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Finish the requests in flight, and close models and connections."""
