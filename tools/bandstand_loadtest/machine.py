"""Metadata of the machine of a load test: hardware, load, versions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

_PACKAGES = ("bandstand", "bentoml", "tritonclient", "onnxruntime", "openvino", "av", "numpy")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that sent the load.

    Attributes:
        processor: its name.
        cores: that this process may use.
        memory_gib: of the machine.
        gpus: as their driver names them.
        load_average: of the last 1, 5 and 15 minutes before the test. More than a few tenths per
            core means that other processes used the machine.
        system: kernel and its version.
        python: version.
        packages: versions of installed packages.
    """

    processor: str
    cores: int
    memory_gib: float
    gpus: tuple[str, ...]
    load_average: tuple[float, float, float]
    system: str
    python: str
    packages: dict[str, str]

    @classmethod
    def here(cls) -> Machine:
        """Describe this machine; call it before the test, so that the load is not ours."""
        return cls(
            processor=_processor(),
            cores=len(psutil.Process().cpu_affinity() or ())
            if hasattr(psutil.Process, "cpu_affinity")
            else os.cpu_count() or 1,
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            gpus=_gpus(),
            load_average=psutil.getloadavg(),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            packages=_versions(),
        )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpus() -> tuple[str, ...]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    query = [command, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in found.stdout.splitlines() if line.strip())


def _versions() -> dict[str, str]:
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed
