"""Formatting, lint and types hold; a change that breaks them is not finished."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness import PROJECT_ROOT

CHECKS = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["mypy"],
}


@pytest.mark.parametrize("check", CHECKS)
def test_check_passes(check: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", *CHECKS[check]],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
