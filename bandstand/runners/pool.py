"""Models by name, wherever they run: in this process, in runner processes, on a Triton server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from bandstand.errors import BandstandError
from bandstand.models.card import Card
from bandstand.runners.base import Array

Attempt = Callable[[], Awaitable[object]]
"""Makes a part do its work in small; raises what is wrong with it."""


class Model(Protocol):
    """A model that answers batches, wherever it runs.

    A new version may take over between two batches: right after `infer`, `card` and `version` are
    those of the version that answered.
    """

    @property
    def card(self) -> Card:
        """Its card, with that version's labels."""
        ...

    @property
    def version(self) -> int:
        """The version that answered last."""
        ...

    async def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Answer one batch; see `bandstand.runners.base.Runner.run`."""
        ...


class PooledModel(Model, Protocol):
    """A model of a pool."""

    @property
    def runtime(self) -> str | None:
        """What computes it; None while that is not known yet."""
        ...


class ModelPool(Mapping[str, PooledModel], ABC):
    """The models that may be asked, by name, and the control of which they are.

    Looking a model up waits for nothing. One that is found here can still refuse: it was unloaded
    meanwhile, or cannot be loaded.
    """

    @property
    @abstractmethod
    def served(self) -> Mapping[str, PooledModel]:
        """The models that are known to answer just now."""

    @property
    def failures(self) -> Mapping[str, BandstandError]:
        """Why models that should be served cannot be, by name."""
        return {}

    @property
    def probes(self) -> Mapping[str, Attempt]:
        """What must work beside the models themselves, by name."""
        return {}

    async def start(self) -> None:
        """Find out what is served, and follow it; what is not there yet is no fault."""
        return

    @abstractmethod
    async def load(self, name: str, version: int | None = None) -> None:
        """Serve a version from now on, and after a restart; None: the newest, whichever that is.

        What was begun with the version before is answered by it.

        Raises:
            ModelNotFoundError, ModelNotInstalledError: there is no such model, or version.
            BandstandError: it cannot be loaded; then what was served before still is.
        """

    @abstractmethod
    async def unload(self, name: str) -> None:
        """Take no more requests for a model; return when those that were begun are answered.

        Raises:
            ModelNotFoundError, ModelNotInstalledError: there is no such model, or it is not served.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Finish what was begun, and let go of models and connections."""
