"""Large inputs reach a Triton server on the same host in shared memory, not through a socket.

One bounded piece of memory is registered with the server once; calls take parts of it and give them
back. It has a name in `/dev/shm` only until the server has mapped it: whatever happens to either
process, no file is left.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import mmap
import os
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from bandstand.errors import BandstandError, DeadlineExceededError, UnavailableError
from bandstand.runners.base import Array

SharedMemoryMode = Literal["auto", "on", "off"]

SMALLEST_BYTES = 128 * 1024
"""Below this the socket is as cheap. At twice as much, memory saves both sides a third of their CPU
time, at 2 MB more than half."""
ARENA_BYTES = 64 * 1024 * 1024
"""The whole of it: the usual size of a container's `/dev/shm`."""

_ALIGN = 64
_FOLDER = Path("/dev/shm")  # noqa: S108 (where POSIX shared memory is)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placed:
    """An array's place in registered memory."""

    region: str
    offset: int
    size: int


class Arena:
    """One registered region, given out in parts: the first gap that is large enough.

    Args:
        name: of the region.
        memory: what both processes see.
    """

    def __init__(self, name: str, memory: mmap.mmap) -> None:
        self.name = name
        self._memory = memory
        self._gaps = [(0, len(memory))]  # (offset, size), ascending, never touching

    def place(self, array: Array) -> Placed | None:
        """Copy an array in; None: there is no room just now."""
        needed = -(-array.nbytes // _ALIGN) * _ALIGN
        for i, (offset, size) in enumerate(self._gaps):
            if size >= needed:
                self._gaps[i : i + 1] = [(offset + needed, size - needed)] if size > needed else []
                there = np.frombuffer(self._memory, array.dtype, array.size, offset)
                np.copyto(there.reshape(array.shape), array)
                return Placed(self.name, offset, array.nbytes)
        return None

    def give_back(self, placed: Placed) -> None:
        """Make an array's place free again."""
        size = -(-placed.size // _ALIGN) * _ALIGN
        gaps: list[tuple[int, int]] = []
        for offset, length in sorted([*self._gaps, (placed.offset, size)]):
            if gaps and sum(gaps[-1]) == offset:
                gaps[-1] = (gaps[-1][0], gaps[-1][1] + length)
            else:
                gaps.append((offset, length))
        self._gaps = gaps


class Registry(Protocol):
    """The server's list of regions."""

    async def register(self, name: str, key: str, size: int) -> None:
        """Have the server map `/dev/shm/<key>`."""
        ...

    async def unregister(self, name: str) -> None:
        """Have the server let a region go."""
        ...

    async def regions(self) -> list[str]:
        """Name all regions that the server has."""
        ...


def may_share(mode: SharedMemoryMode, url: str) -> bool:
    """Say whether to try: `auto` does where the address is this host's own."""
    if mode == "off" or not _FOLDER.is_dir():
        return False
    return mode == "on" or _is_this_host(url)


def _is_this_host(url: str) -> bool:
    if url.startswith("unix:"):
        return True
    host = url.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SharedMemory:
    """The region that this process shares with one server; made when first needed.

    Args:
        registry: the server's.
        enabled: False: there never is an arena.
        size: of the arena, in bytes.
    """

    def __init__(self, registry: Registry, *, enabled: bool, size: int = ARENA_BYTES) -> None:
        self._registry = registry
        self._enabled = enabled
        self._size = size
        self._arena: Arena | None = None
        self._opening = asyncio.Lock()
        self._has_dropped_calls = False

    async def arena(self) -> Arena | None:
        """Return the registered arena; None where memory cannot be shared."""
        if self._arena is None and self._enabled:
            async with self._opening:
                if self._arena is None and self._enabled:
                    await self._open()
        return self._arena

    def forget(self, region: str) -> None:
        """Take note that the server does not know a region (any more): it was started anew."""
        if self._arena is not None and self._arena.name == region:
            self._arena = None

    @contextmanager
    def placed(self, arena: Arena, arrays: Iterable[Array]) -> Iterator[list[Placed | None]]:
        """Hold arrays in the arena for the block; None for one that finds no room.

        The server may still read what a dropped call left. Other content there harms only an
        answer that nobody takes; but the region must not be unmapped under it.
        """
        places = [arena.place(a) if a.nbytes >= SMALLEST_BYTES else None for a in arrays]
        try:
            yield places
        except (asyncio.CancelledError, DeadlineExceededError, UnavailableError):
            self._has_dropped_calls = True
            raise
        finally:
            for placed in places:
                if placed is not None:
                    arena.give_back(placed)

    async def aclose(self) -> None:
        """Have the server let the region go."""
        arena, self._arena, self._enabled = self._arena, None, False
        if arena is not None and not self._has_dropped_calls:
            with suppress(BandstandError):
                await self._registry.unregister(arena.name)

    async def _open(self) -> None:
        try:
            await _unregister_dead(self._registry)
            self._arena = await _registered(self._registry.register, self._size)
            self._has_dropped_calls = False
        except UnavailableError:
            return  # no server just now
        except (BandstandError, OSError) as error:
            logger.warning("inputs go through the socket: no shared memory: %s", error)
            self._enabled = False


async def _registered(register: Callable[[str, str, int], Awaitable[None]], size: int) -> Arena:
    """Make an arena; its file is there only while the server maps it."""
    name = f"{_own_prefix()}{os.getpid()}-{uuid.uuid4().hex}"
    path = _FOLDER / name
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        # Not a hole to be filled later: a full /dev/shm would then be a SIGBUS.
        os.posix_fallocate(descriptor, 0, size)
        memory = mmap.mmap(descriptor, size)
        await register(name, f"/{name}", size)
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
    return Arena(name, memory)


async def _unregister_dead(registry: Registry) -> None:
    """Let go of what processes that are dead have registered: the server would keep it forever."""
    for name in await registry.regions():
        process = name.removeprefix(_own_prefix()).partition("-")[0]
        if name.startswith(_own_prefix()) and process.isdigit() and _is_dead(int(process)):
            await registry.unregister(name)


def _own_prefix() -> str:
    """Return how the regions of all processes begin whose numbers mean something here."""
    namespace = re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    return f"bandstand-{namespace}-"


def _is_dead(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
