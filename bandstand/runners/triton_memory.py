"""Sends large inputs to a Triton server on the same host in shared memory, not through a socket.

One region of fixed size is registered with the server once; calls use parts of it. The file in
`/dev/shm` is deleted as soon as the server has mapped it, so no file remains when a process dies.
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
"""For smaller arrays the socket costs no more. At twice this size, shared memory saves both sides a
third of their CPU time, at 2 MB more than half."""
ARENA_BYTES = 64 * 1024 * 1024
"""Size of the region: the usual size of a container's `/dev/shm`."""

_ALIGN = 64
_UNREGISTER_PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)
_FOLDER = Path("/dev/shm")  # noqa: S108 (where POSIX shared memory is)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placed:
    """An array's place in registered memory."""

    region: str
    offset: int
    size: int


class Arena:
    """One registered region; each array gets the first gap that is large enough.

    Args:
        name: the name of the region.
        memory: the memory that both processes have mapped.
    """

    def __init__(self, name: str, memory: mmap.mmap) -> None:
        self.name = name
        self._memory = memory
        self._gaps = [(0, len(memory))]  # (offset, size), ascending, not adjacent

    def place(self, array: Array) -> Placed | None:
        """Copy an array into the region and return its place; None: there is no space."""
        needed = -(-array.nbytes // _ALIGN) * _ALIGN
        for i, (offset, size) in enumerate(self._gaps):
            if size >= needed:
                self._gaps[i : i + 1] = [(offset + needed, size - needed)] if size > needed else []
                there = np.frombuffer(self._memory, array.dtype, array.size, offset)
                np.copyto(there.reshape(array.shape), array)
                return Placed(self.name, offset, array.nbytes)
        return None

    def give_back(self, placed: Placed) -> None:
        """Free the place of an array."""
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
        """Make the server map `/dev/shm/<key>`."""
        ...

    async def unregister(self, name: str) -> None:
        """Make the server unmap a region."""
        ...

    async def regions(self) -> list[str]:
        """Return the names of all regions of the server."""
        ...


def may_share(mode: SharedMemoryMode, url: str) -> bool:
    """Return whether to try shared memory; `auto`: if the address is on this host."""
    if mode == "off" or not _FOLDER.is_dir():
        return False
    return mode == "on" or is_this_host(url)


def is_this_host(url: str) -> bool:
    """Return whether only this host reaches an address, `host:port` or `unix:…`."""
    if url.startswith("unix:"):
        return True
    host = url.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SharedMemory:
    """The region that this process shares with one server, created when it is first needed.

    Args:
        registry: the regions of the server.
        enabled: False: no region is ever created.
        size: of the region, in bytes.
    """

    def __init__(self, registry: Registry, *, enabled: bool, size: int = ARENA_BYTES) -> None:
        self._registry = registry
        self._enabled = enabled
        self._size = size
        self._arena: Arena | None = None
        self._opening = asyncio.Lock()
        self._has_dropped_calls = False

    async def arena(self) -> Arena | None:
        """Return the registered arena; None: memory cannot be shared."""
        if self._arena is None and self._enabled:
            async with self._opening:
                if self._arena is None and self._enabled:
                    await self._open()
        return self._arena

    def forget(self, region: str) -> None:
        """Forget a region that the server does not know, because it was restarted."""
        if self._arena is not None and self._arena.name == region:
            self._arena = None

    @contextmanager
    def placed(self, arena: Arena, arrays: Iterable[Array]) -> Iterator[list[Placed | None]]:
        """Keep arrays in the arena for the block; yield None for an array without a place.

        After a cancelled call the server may still read its arrays. Their places may be reused,
        because the answer of that call is not used; but the region must stay mapped.
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
        """Make the server unmap the region, unless it may still read it for a cancelled call."""
        arena, self._arena, self._enabled = self._arena, None, False
        if arena is None or self._has_dropped_calls:
            return
        with suppress(BandstandError):
            # Triton may hold a region for a moment after it has answered the call that used it, and
            # then keeps it although it was asked to unmap it.
            for pause in _UNREGISTER_PAUSES_SECONDS:
                await self._registry.unregister(arena.name)
                if arena.name not in await self._registry.regions():
                    return
                await asyncio.sleep(pause)
            logger.warning("the Triton server keeps the shared memory %s", arena.name)

    async def _open(self) -> None:
        try:
            await _unregister_dead(self._registry)
            self._arena = await _registered(self._registry.register, self._size)
            self._has_dropped_calls = False
        except UnavailableError:
            return  # the server is not available
        except (BandstandError, OSError) as error:
            logger.warning("inputs go through the socket: no shared memory: %s", error)
            self._enabled = False


async def _registered(register: Callable[[str, str, int], Awaitable[None]], size: int) -> Arena:
    """Create an arena; its file exists only until the server has mapped it."""
    name = f"{_own_prefix()}{os.getpid()}-{uuid.uuid4().hex}"
    path = _FOLDER / name
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        # Allocates now: with a sparse file, a full /dev/shm would cause a SIGBUS later.
        os.posix_fallocate(descriptor, 0, size)
        memory = mmap.mmap(descriptor, size)
        await register(name, f"/{name}", size)
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
    return Arena(name, memory)


async def _unregister_dead(registry: Registry) -> None:
    """Unregister the regions of dead processes, which the server would keep for ever."""
    for name in await registry.regions():
        process = name.removeprefix(_own_prefix()).partition("-")[0]
        if name.startswith(_own_prefix()) and process.isdigit() and _is_dead(int(process)):
            await registry.unregister(name)


def _own_prefix() -> str:
    """Return the prefix of the regions of all processes in this process's PID namespace."""
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
