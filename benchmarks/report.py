"""The result of a benchmark: hardware, versions, command, tables, notes."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"

_PACKAGES = (
    "bandstand",
    "numpy",
    "scipy",
    "librosa",
    "onnxruntime",
    "openvino",
    "torch",
    "transformers",
    "bentoml",
    "fastapi",
    "litserve",
    "tritonclient",
    "av",
    "soxr",
)
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a report; cells are shown as they are, numbers with four digits."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | int]]


def machine() -> dict[str, object]:
    """Return what the numbers depend on: processor, load, versions.

    `load_average` is that of the last 1, 5 and 15 minutes; more than a few tenths a core at the
    start means that others were at work.
    """
    model, flags = _processor()
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "flags": {flag: flag in flags for flag in _FLAGS},
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": _versions(),
    }


def command_line(module: str) -> str:
    """Return the command that this process was started with, to make its numbers again."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def write_report(
    name: str,
    title: str,
    command: str,
    tables: Sequence[Table],
    notes: Sequence[str] = (),
    *,
    measured_on: dict[str, object] | None = None,
    directory: Path = RESULTS,
) -> str:
    """Write `<name>.md` for people and `<name>.json` for programs.

    Args:
        name: file name without ending.
        title: heading.
        command: what makes these numbers again.
        tables: the numbers.
        notes: how they were measured, one point each.
        measured_on: `machine()` taken before measuring, so that the load is not our own; None:
            taken now.
        directory: where to write.

    Returns:
        The Markdown text.
    """
    machine_metadata = machine() if measured_on is None else measured_on
    directory.mkdir(parents=True, exist_ok=True)
    content = {
        "title": title,
        "command": command,
        "machine": machine_metadata,
        "tables": [asdict(table) for table in tables],
        "notes": list(notes),
    }
    text = _markdown(title, command, machine_metadata, tables, notes)
    (directory / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (directory / f"{name}.md").write_text(text, encoding="utf-8")
    return text


def _processor() -> tuple[str, frozenset[str]]:
    """Return the processor's name and flags; only Linux tells the flags."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    pairs = (line.partition(":") for line in lines)
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    return fields.get("model name", platform.machine()), frozenset(fields.get("flags", "").split())


def _versions() -> dict[str, str]:
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed


def _markdown(
    title: str,
    command: str,
    machine_metadata: dict[str, object],
    tables: Sequence[Table],
    notes: Sequence[str],
) -> str:
    lines = [f"# {title}", "", f"`{command}`", ""]
    for table in tables:
        lines += [f"## {table.title}", "", *table_lines(table.columns, table.rows), ""]
    if notes:
        lines += ["## How it was measured", "", *(f"- {note}" for note in notes), ""]
    named = [(key.replace("_", " "), format_cell(value)) for key, value in machine_metadata.items()]
    lines += ["## Hardware and versions", "", *table_lines(("", ""), named)]
    return "\n".join(lines) + "\n"


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str | float | int]]) -> list[str]:
    """Return a Markdown table, line by line."""
    return [_row(columns), _row(["---"] * len(columns)), *(_row(row) for row in rows)]


def _row(cells: Sequence[str | float | int]) -> str:
    return "| " + " | ".join(format_cell(cell) for cell in cells) + " |"


def format_cell(value: object) -> str:
    """Return a value as people read it: flags by name, numbers with four digits."""
    if isinstance(value, dict):
        if all(isinstance(item, bool) for item in value.values()):
            return " ".join(key for key, present in value.items() if present) or "none"
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
