"""The Locust scenario runs against a real server, and a server that answers wrongly fails it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from harness import PROJECT_ROOT
from tests.paced_server import genre, paced_server

# Looked for, not imported: importing it would patch the standard library of all tests.
pytestmark = [
    pytest.mark.release,
    pytest.mark.skipif(find_spec("locust") is None, reason="Locust is not installed"),
]


def locust(url: str) -> tuple[int, list[dict[str, object]], str]:
    """Run it for some seconds, in a process of its own, since it patches the standard library."""
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", "benchmarks/locustfile.py", "--headless"),
            *("-u", "2", "-r", "2", "-t", "4s", "--json", "--host", url),
        ],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return ended.returncode, json.loads(ended.stdout or "[]"), ended.stderr


def test_a_real_server_passes(server_url: str) -> None:
    code, rows, errors = locust(server_url)
    assert code == 0, errors[-3000:]
    assert sum(int(str(row["num_requests"])) for row in rows) > 0
    assert all(row["num_failures"] == 0 for row in rows)
    assert "100 % of them right" in errors


def test_wrong_answers_fail() -> None:
    with paced_server(0.05, lambda _content: (200, genre("polka"))) as server:
        code, rows, errors = locust(server.url)
    assert code == 1
    assert rows
    assert all(row["num_failures"] == row["num_requests"] for row in rows)
    assert "polka instead of" in errors
