"""Denormal numbers count as zero while a model is loaded or computes.

Many CPUs compute with denormal numbers (float32 below 1.2e-38) in microcode: a network with some
thousands of such weights took 30 times as long, with the same answers. The CPU has a switch for
it, which belongs to one thread. The runtimes' own options set it for their own threads, and for the
thread that loads the first model, where it stays for ever; but not for the threads that call a
model later, and these compute too. So every load and every call is inside `denormals_are_zero`.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any


class _X86Environment(ctypes.Structure):
    """glibc's `fenv_t` on x86-64: the state of the x87 unit, then that of SSE."""

    _fields_ = (("x87", ctypes.c_ubyte * 28), ("control", ctypes.c_uint32))


class _ArmEnvironment(ctypes.Structure):
    """glibc's `fenv_t` on aarch64."""

    _fields_ = (("control", ctypes.c_uint32), ("status", ctypes.c_uint32))


_BITS: dict[str, tuple[type[ctypes.Structure], int]] = {
    # Denormal results become zero (0x8000), and denormal operands too (0x40).
    "x86_64": (_X86Environment, 0x8040),
    "aarch64": (_ArmEnvironment, 1 << 24),
}
"""The floating-point environment of a CPU, and the bits of its control word that are set."""


def denormals_are_zero() -> AbstractContextManager[None]:
    """Compute with zeros instead of denormal numbers, in this thread, until the block ends.

    Threads that are started inside inherit it, and keep it. Afterwards the thread is as it was,
    whatever the code inside has changed. On other systems than Linux on x86-64 or aarch64 nothing
    is changed.
    """
    return _switched(on=True)


def denormals_are_kept() -> AbstractContextManager[None]:
    """Compute with denormal numbers as IEEE 754 has them, also inside `denormals_are_zero`."""
    return _switched(on=False)


@contextmanager
def _switched(*, on: bool) -> Iterator[None]:
    library, environment, bits = _switch()
    if library is None:
        yield
        return
    before = environment()
    library.fegetenv(ctypes.byref(before))
    inside = environment.from_buffer_copy(before)
    inside.control = inside.control | bits if on else inside.control & ~bits
    library.fesetenv(ctypes.byref(inside))
    try:
        yield
    finally:
        library.fesetenv(ctypes.byref(before))


@cache
def _switch() -> tuple[Any, Any, int]:
    """Return the C library with `fesetenv`, and what is set how; None: not on this system."""
    known = _BITS.get(platform.machine())
    if known is None or sys.platform != "linux":
        return None, None, 0
    try:
        library = ctypes.PyDLL("libm.so.6")  # holds the GIL: the calls take nanoseconds
    except OSError:  # another C library than glibc
        return None, None, 0
    return library, *known
