"""The folders' imports run one way, and a serving process carries no training framework."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from harness import PROJECT_ROOT

CLIENT, LIBRARY = "bandstand_client", "bandstand"
ALLOWED = {
    "clients/bandstand_client": set(),
    "bandstand": {CLIENT},
    "bentos/bandstand_bentos": {LIBRARY, CLIENT},
    "training/bandstand_training": {LIBRARY, CLIENT},
    "exporters/bandstand_exporters": {LIBRARY, CLIENT, "bandstand_training"},
    "tools/bandstand_diagnosis": {LIBRARY},
    "tools/bandstand_loadtest": {LIBRARY, CLIENT},
    "tools/bandstand_cli": {
        *(LIBRARY, CLIENT, "bandstand_bentos", "bandstand_exporters", "bandstand_training"),
        *("bandstand_diagnosis", "bandstand_loadtest"),
    },
    "harness": None,
    "benchmarks": None,
}
"""What each package may import of ours beside itself; None: all but the tests."""
OURS = {Path(package).name for package in ALLOWED} | {"tests"}


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names & OURS


@pytest.mark.parametrize("package", ALLOWED)
def test_package_imports_only_what_lies_below(package: str) -> None:
    below = ALLOWED[package]
    allowed = OURS - {"tests"} if below is None else below | {Path(package).name}
    files = list((PROJECT_ROOT / package).rglob("*.py"))
    assert files, package
    for path in files:
        assert imported(path) <= allowed, path


def test_no_two_packages_import_each_other() -> None:
    graph = {}
    for package in ALLOWED:
        name, files = Path(package).name, (PROJECT_ROOT / package).rglob("*.py")
        graph[name] = {other for path in files for other in imported(path)} - {name}
    order = list(TopologicalSorter(graph).static_order())  # a cycle raises CycleError
    places = [order.index(name) for name in (CLIENT, LIBRARY, "bandstand_bentos", "bandstand_cli")]
    assert places == sorted(places)


LAYERS = (
    {"places", "errors"},
    {"settings", "fair_shares"},
    {"telemetry", "models"},
    {"frontends"},
    {"audio"},
    {"runners"},
    {"pipelines"},
    {"operations"},
    {"triton"},
    {"local"},
)
"""The parts of the library; each imports only parts of the layers above it in this list."""


def parts_imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[1] for name in names if name and name.startswith("bandstand.")}


@pytest.mark.parametrize("level", range(len(LAYERS)))
def test_a_part_of_the_library_imports_only_lower_parts(level: int) -> None:
    lower = set().union(*LAYERS[:level])
    for part in LAYERS[level]:
        folder = PROJECT_ROOT / "bandstand" / part
        files = list(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
        assert files, part
        for path in files:
            assert parts_imported(path) <= lower | {part}, path


def test_every_part_of_the_library_has_its_layer() -> None:
    inside = (PROJECT_ROOT / "bandstand").iterdir()
    parts = {
        path.stem for path in inside if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert parts - {"__init__"} == set().union(*LAYERS)


def test_serving_loads_no_training_framework() -> None:
    code = (
        "import sys, bandstand_bentos.service\n"
        "heavy = {'torch', 'tensorflow', 'keras', 'librosa', 'transformers', 'sklearn', 'numba'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip().splitlines()[-1] == "[]"


NOT_NEEDED = {
    "bandstand": {"onnxruntime", "openvino", "tritonclient", "grpc", "typer"},
    "preprocessor": {"fastapi", "onnxruntime", "openvino", "tritonclient", "grpc", "typer"},
    "shared_runner": {"fastapi", "av", "soxr", "scipy", "tritonclient", "grpc", "typer"},
}
"""Packages that a process must not import before it works, by its service: each takes a tenth of a
second or more, and a process that died is to be replaced soon."""


@pytest.mark.parametrize("service", NOT_NEEDED)
def test_a_process_imports_only_what_its_service_needs(service: str) -> None:
    code = "import sys, bandstand_bentos.process\nprint(*sys.modules)"
    command = [sys.executable, "-c", code, "--service-name", service]
    run = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in run.stdout.split()}
    assert "bentoml" in imported
    assert imported & NOT_NEEDED[service] == set()


def test_the_library_loads_no_serving_framework() -> None:
    code = (
        "import sys, bandstand.local, bandstand.telemetry\n"
        "print(sorted({'bentoml', 'fastapi', 'starlette', 'uvicorn'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
