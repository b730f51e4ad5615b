"""The gateway's side of the models: they are in runner processes, behind sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
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
    """A runner process, as the gateway sees it.

    Attributes:
        name: of its service.
        infer: its call that answers a batch.
        control: its call that loads, unloads and lists; see `bandstand_bentos.model_runner`.
    """

    name: str
    infer: Call
    control: Call

    async def send(self, command: str, **metadata: Any) -> dict[str, Any]:
        """Send a command to `control`; return the metadata of its answer.

        Raises:
            BandstandError: what it refused with; it cannot be reached.
        """
        return (await call_worker(self.name, self.control, {}, {"command": command, **metadata}))[1]


class RemoteModel:
    """A model in a runner process.

    Args:
        name: its name.
        card_of: gives a version's card.
        version: the version that answers, as far as is known.
        runner: where it is.
    """

    def __init__(
        self, name: str, card_of: Callable[[int], Card], version: int, runner: RunnerProcess
    ) -> None:
        self._name = name
        self._card_of = card_of
        self.card = card_of(version)
        self.version = version
        self.runtime: str | None = None
        self._runner = runner

    def set_version(self, version: int, runtime: str) -> None:
        """Take note of what answers.

        Raises:
            BandstandError: the card of that version is not in this repository.
        """
        if version != self.version:
            self.card, self.version = self._card_of(version), version
        self.runtime = runtime

    async def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Answer one batch; afterwards `card` and `version` are those that answered."""
        with stage("inference"):
            outputs, metadata = await call_worker(
                self._runner.name, self._runner.infer, inputs, {"model": self._name}
            )
        self.set_version(metadata["version"], metadata["runtime"])
        return outputs


class RunnerPool(ModelPool):
    """Models in runner processes: a few have one of their own, all others share one.

    Which models are served, the runner processes know: each loads, when it starts, what the
    repository says, and what it is told later. The gateway begins with what the repository says and
    looks at each runner process again and again, so that both sides may be replaced at any time. A
    model that was unloaded here stays so when its runner process is replaced.

    Args:
        catalogue: which models there are.
        shared: the runner process of all models that have none of their own.
        own: the others, by model.
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
        self._changing = asyncio.Lock()
        self._changes = 0
        self._refreshing: list[asyncio.Task[None]] = []
        for name in catalogue.usable():
            with suppress(BandstandError):  # it has gone, or broken, meanwhile
                self._add(name, catalogue.serving(name).version)

    def __getitem__(self, name: str) -> RemoteModel:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    @property
    def served(self) -> Mapping[str, RemoteModel]:
        """The models that answer, as far as is known."""
        return {name: model for name, model in self._models.items() if name not in self._failures}

    @property
    def failures(self) -> Mapping[str, BandstandError]:
        """Why models could not be loaded when their runner process started, by name."""
        return self._failures

    @property
    def probes(self) -> Mapping[str, Attempt]:
        """The shared runner process: what is loaded later goes there."""
        return {self._shared.name: partial(self._shared.send, "list")}

    async def start(self) -> None:
        """Look at the runner processes again and again; one that still starts is waited for."""
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
        """Stop looking; the runner processes go by themselves."""
        for refreshing in self._refreshing:
            refreshing.cancel()
        await asyncio.gather(*self._refreshing, return_exceptions=True)

    def _runner_of(self, name: str) -> RunnerProcess:
        return self._own.get(name, self._shared)

    def _add(self, name: str, version: int) -> RemoteModel:
        def card_of(version: int) -> Card:
            return self._catalogue.repository.installed(name, version).card()

        self._models[name] = RemoteModel(name, card_of, version, self._runner_of(name))
        return self._models[name]

    def _set_version(self, name: str, version: int, runtime: str) -> None:
        model = self._models.get(name) or self._add(name, version)
        model.set_version(version, runtime)

    @asynccontextmanager
    async def _changes_made(self) -> AsyncIterator[None]:
        """Hold off other changes; what was looked up meanwhile is out of date."""
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
                pass  # said in the log by the call; whoever asks a model is told
            except Exception:
                logger.exception("looking at the %s", runner.name)
            await asyncio.sleep(_REFRESH_SECONDS)

    async def _refresh(self, runner: RunnerProcess) -> None:
        """Take over what a runner process serves; have it let go of what was unloaded before."""
        before = self._changes
        found = await runner.send("list")
        if self._changing.locked() or self._changes != before:
            return  # it may be older than the change
        served, failures = found["served"], found["failures"]
        for name in [name for name in self._models if self._runner_of(name) is runner]:
            self._failures.pop(name, None)
            if name in failures:
                self._failures[name] = BandstandError.from_fields(failures[name])
            elif name not in served:
                del self._models[name]
                self._unloaded.add(name)
        for name in served.keys() - self._unloaded:
            self._set_version(name, **served[name])
        for name in served.keys() & self._unloaded:
            async with self._changes_made():
                if name in self._unloaded:
                    await runner.send("unload", model=name)
