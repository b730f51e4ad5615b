"""The folders' imports run one way, and a serving process carries no training framework."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from bandstand.settings import PROJECT_ROOT

OURS = {"bandstand", "bentos", "clients", "exporters", "training"}
ALLOWED = {
    "clients": {"clients"},
    "bandstand": {"bandstand"},
    "bentos": {"bentos", "bandstand", "clients"},
    "exporters": {"exporters", "bandstand", "training"},
    "training": {"training", "bandstand", "exporters"},
}
# The command line starts servers and may ask them; nothing else in the library looks up.
COMMAND_LINE = {"bandstand": {"bandstand", "clients", "bentos"}}


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
    for path in (PROJECT_ROOT / package).rglob("*.py"):
        inside = path.relative_to(PROJECT_ROOT).parts[1]
        allowed = COMMAND_LINE if inside in {"cli", "cli.py"} else ALLOWED
        assert imported(path) <= allowed[package], path


def test_serving_loads_no_training_framework() -> None:
    code = (
        "import sys, bentos.service\n"
        "heavy = {'torch', 'tensorflow', 'keras', 'librosa', 'transformers', 'sklearn', 'numba'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip().splitlines()[-1] == "[]"


def test_the_library_loads_no_serving_framework() -> None:
    code = (
        "import sys, bandstand.pipelines.local, bandstand.telemetry\n"
        "print(sorted({'bentoml', 'fastapi', 'starlette', 'uvicorn'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
