"""Settings: what a blank variable means, and which keys are refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from bandstand.settings import SHORTEST_KEY, Settings


@pytest.mark.parametrize("blank", ["", " ", "\t \n"])
def test_a_blank_key_is_no_key(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    monkeypatch.setenv("BANDSTAND_ADMIN_KEY", blank)
    assert Settings().admin_key is None
    assert Settings(admin_key=blank).admin_key is None


def test_white_space_around_a_key_is_no_part_of_it() -> None:
    key = Settings(admin_key=f"{'k' * SHORTEST_KEY}\n").admin_key
    assert key is not None
    assert key.get_secret_value() == "k" * SHORTEST_KEY


@pytest.mark.parametrize("short", ["k", "k" * (SHORTEST_KEY - 1), f" {'k' * 9} ".ljust(40)])
def test_a_short_key_is_refused_and_not_repeated(short: str) -> None:
    with pytest.raises(ValidationError, match="at least 16 characters") as refusal:
        Settings(admin_key=short)
    assert "kkk" not in refusal.value.errors()[0]["msg"]


def test_any_blank_variable_is_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    unset = Settings()
    for name in ("PORT", "OTLP_ENDPOINT", "LOG_FORMAT", "FETCH_ALLOWED_NETWORKS", "FETCH_CA_FILE"):
        monkeypatch.setenv(f"BANDSTAND_{name}", "")
    assert Settings() == unset


def test_serve_says_in_one_line_that_a_key_is_short() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "bandstand_cli", "serve"],
        env={"BANDSTAND_ADMIN_KEY": "hunter2", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert "BANDSTAND_ADMIN_KEY" in line
    assert "16 characters" in line
    assert "hunter2" not in line
