"""The CPU cores that this process may use, and their support of bfloat16."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")
CPU_FLAGS = Path("/proc/cpuinfo")
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def available_cores(cgroup_limit: Path = CGROUP_LIMIT) -> int:
    """Return how many threads can run at the same time, at least 1.

    The smaller of two numbers: the cores that this process is pinned to, and the CPU time of its
    container (cgroup v2 `cpu.max`: quota by period, both in microseconds), rounded up.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = cgroup_limit.read_text(encoding="ascii").split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no cgroup v2, or the quota is "max"
        pass
    return max(cores, 1)


@cache
def has_bf16() -> bool:
    """Return whether the CPU multiplies bfloat16 natively (AVX512_BF16 or AMX_BF16)."""
    try:
        lines = CPU_FLAGS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not BF16_FLAGS.isdisjoint(flags.split())
