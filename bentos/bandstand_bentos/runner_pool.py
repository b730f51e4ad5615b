"""The gateway's model pool: the models run in runner processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from bandstand.errors import BandstandError, ModelNotInstalledError
from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.runners.base import Array
from bandstand.runners.pool import Attempt, ModelPool
from bandstand.telemetry import stage
from bandstand_bentos.remote import Call, call_worker

_REFRESH_SECONDS = 5.0

logger = logging.getLogger("bandstand.gateway")


@dataclass(frozen=True, slots=True)
class RunnerProcess:
    """The gateway's connection to a runner process.

    Attributes:
        name: the name of its service.
        infer: its call that computes a batch.
        control: its call that loads, unloads and lists models; see `bandstand_bentos.model_runner`.
    """

    name: str
    infer: Call
    control: Call

    async def send(self, command: str, **metadata: Any) -> dict[str, Any]:
        """Send a command to `control`; return the metadata of its answer.

        Raises:
            BandstandError: it refused the command, or cannot be reached.
        """
        return (await call_worker(self.name, self.control, {}, {"command": command, **metadata}))[1]


class RemoteModel:
    """A model in a runner process.

    Args:
        name: its name.
        card_of: returns the card of a version.
        version: the version that is expected to answer.
        runner: the runner process.
        on_answer: is called with the process id of each answer, before `version` is set.
    """

    def __init__(
        self,
        name: str,
        card_of: Callable[[int], Card],
        version: int,
        runner: RunnerProcess,
        on_answer: Callable[[int], Awaitable[None]],
    ) -> None:
        self._name = name
        self._card_of = card_of
        self.card = card_of(version)
        self.version = version
        self.runtime: str | None = None
        self._runner = runner
        self._on_answer = on_answer

    def set_version(self, version: int, runtime: str) -> None:
        """Store the version and the runtime that answer.

        Raises:
            BandstandError: the card of that version is not in this repository.
        """
        if version != self.version:
            self.card, self.version = self._card_of(version), version
        self.runtime = runtime

    async def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute one batch; afterwards `card` and `version` are those that answered."""
        with stage("inference"):
            outputs, metadata = await call_worker(
                self._runner.name, self._runner.infer, inputs, {"model": self._name}
            )
        await self._on_answer(metadata["process"])
        self.set_version(metadata["version"], metadata["runtime"])
        return outputs


class RunnerPool(ModelPool):
    """Models in runner processes: each heavy model has its own, the light models share one.

    The runner processes determine which models are served: each loads the models of the repository
    when it starts, and follows the commands that it receives. The gateway starts with the models of
    the repository and asks each runner process regularly, so either side may be replaced at any
    time. A model that was unloaded here stays unloaded when its runner process is replaced.

    Args:
        catalogue: the cards and the repository.
        shared: the runner process of the light models.
        own: the runner processes of the heavy models, by model.
    """

    def __init__(
        self, catalogue: Catalogue, shared: RunnerProcess, own: Mapping[str, RunnerProcess]
    ) -> None:
        self._catalogue = catalogue
        self._shared = shared
        self._own = own
        self._models: dict[str, RemoteModel] = {}
        self._failures: dict[str, BandstandError] = {}
        self._unloaded: set[str] = set()
        self._processes: dict[str, int] = {}
        self._changing = asyncio.Lock()
        self._changes = 0
        self._refreshing: list[asyncio.Task[None]] = []
        for name in catalogue.usable():
            with suppress(BandstandError):  # it was removed or damaged meanwhile
                self._add(name, catalogue.serving(name).version)

    def __getitem__(self, name: str) -> RemoteModel:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    @property
    def served(self) -> Mapping[str, RemoteModel]:
        """The models that are served: by the repository at first, then by the last refresh."""
        return {name: model for name, model in self._models.items() if name not in self._failures}

    @property
    def failures(self) -> Mapping[str, BandstandError]:
        """Why models could not be loaded when their runner process started, by name."""
        return self._failures

    @property
    def probes(self) -> Mapping[str, Attempt]:
        """The shared runner process, which also loads models that are installed later."""
        return {self._shared.name: partial(self._shared.send, "list")}

    async def start(self) -> None:
        """Start the regular refresh; runner processes may still be starting."""
        for runner in (self._shared, *self._own.values()):
            refreshing = asyncio.create_task(
                self._refresh_regularly(runner), name=f"refresh-{runner.name}"
            )
            self._refreshing.append(refreshing)

    async def load(self, name: str, version: int | None = None) -> None:
        """See `ModelPool.load`."""
        self._catalogue.check(name)
        async with self._changes_made():
            metadata = await self._runner_of(name).send("load", model=name, version=version)
            self._unloaded.discard(name)
            self._failures.pop(name, None)
            self._set_version(name, metadata["version"], metadata["runtime"])

    async def unload(self, name: str) -> None:
        """See `ModelPool.unload`."""
        self._catalogue.check(name)
        async with self._changes_made():
            if name not in self.served:
                raise ModelNotInstalledError(f"{name} is not loaded")
            del self._models[name]
            self._unloaded.add(name)
            await self._runner_of(name).send("unload", model=name)

    async def aclose(self) -> None:
        """Stop the regular refresh; the supervisor ends the runner processes."""
        for refreshing in self._refreshing:
            refreshing.cancel()
        await asyncio.gather(*self._refreshing, return_exceptions=True)

    def _runner_of(self, name: str) -> RunnerProcess:
        return self._own.get(name, self._shared)

    def _add(self, name: str, version: int) -> RemoteModel:
        def card_of(version: int) -> Card:
            return self._catalogue.repository.installed(name, version).card()

        runner = self._runner_of(name)
        on_answer = partial(self._answered, runner)
        self._models[name] = RemoteModel(name, card_of, version, runner, on_answer)
        return self._models[name]

    async def _answered(self, runner: RunnerProcess, process: int) -> None:
        """Refresh at once if the runner process was replaced: it loads what was unloaded here."""
        before = self._processes.get(runner.name)
        self._processes[runner.name] = process
        if before not in (None, process):
            with suppress(BandstandError):  # the regular refresh repeats it
                await self._refresh(runner)

    def _set_version(self, name: str, version: int, runtime: str) -> None:
        model = self._models.get(name) or self._add(name, version)
        model.set_version(version, runtime)

    @asynccontextmanager
    async def _changes_made(self) -> AsyncIterator[None]:
        """Exclude other changes, and mark refreshes that run meanwhile as out of date."""
        async with self._changing:
            try:
                yield
            finally:
                self._changes += 1

    async def _refresh_regularly(self, runner: RunnerProcess) -> None:
        while True:
            try:
                await self._refresh(runner)
            except BandstandError:
                pass  # the call has logged it, and requests get the error
            except Exception:
                logger.exception("the refresh from the %s failed", runner.name)
            await asyncio.sleep(_REFRESH_SECONDS)

    async def _refresh(self, runner: RunnerProcess) -> None:
        """Ask a runner process what it serves; unload there what was unloaded here."""
        before = self._changes
        found = await runner.send("list")
        if self._changing.locked() or self._changes != before:
            return  # the list may be older than the change
        served, failures = found["served"], found["failures"]
        for name in [name for name in self._failures if self._runner_of(name) is runner]:
            del self._failures[name]
        for name, fields in failures.items():  # also of models that this gateway did not know
            self._failures[name] = BandstandError.from_fields(fields)
        for name in [name for name in self._models if self._runner_of(name) is runner]:
            if name not in served and name not in failures:
                del self._models[name]
                self._unloaded.add(name)
        for name in served.keys() - self._unloaded:
            self._set_version(name, **served[name])
        for name in served.keys() & self._unloaded:
            async with self._changes_made():
                if name in self._unloaded:
                    await runner.send("unload", model=name)
