"""A line of a text log is one record, whatever a client puts into it; JSON keeps the value."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from bandstand.settings import Settings
from bandstand.telemetry import configure_logs, printable

FORGED = "/x\n2026-01-01 00:00:00,000 INFO    POST /models/a/unload 200\r\x1b[2J\u2028\x85\u202e."


@pytest.fixture(autouse=True)
def same_loggers_afterwards() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "bandstand", "uvicorn.error")]
    before = [(list(logger.handlers), logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        logger.handlers = handlers
        logger.setLevel(level)


def fail() -> None:
    raise ValueError(FORGED)


def written(log_format: str, monkeypatch: pytest.MonkeyPatch, logger: str, *, error: bool) -> str:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logs(Settings(log_format=log_format))
    try:
        fail()
    except ValueError:
        logging.getLogger(logger).warning("GET %s", FORGED, exc_info=error)
    return stream.getvalue()


@pytest.mark.parametrize("logger", ["bandstand.access", "uvicorn.error", "asyncio"])
def test_no_text_of_a_client_begins_a_line(monkeypatch: pytest.MonkeyPatch, logger: str) -> None:
    (line,) = written("text", monkeypatch, logger, error=False).splitlines()
    assert line.isprintable()
    assert "GET /x\\n2026-01-01" in line


def test_a_traceback_is_below_its_record_and_indented(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *rest = written("text", monkeypatch, "bandstand", error=True).splitlines()
    assert "WARNING GET /x" in first
    assert any("ValueError" in line for line in rest)
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


@pytest.mark.parametrize("logger", ["bandstand.access", "uvicorn.error"])
def test_json_keeps_the_exact_value(monkeypatch: pytest.MonkeyPatch, logger: str) -> None:
    (line,) = written("json", monkeypatch, logger, error=False).splitlines()
    assert json.loads(line)["message"] == f"GET {FORGED}"


def test_ordinary_text_stays_as_it_is() -> None:
    assert printable("/modèles/日本 a-b_c%20") == "/modèles/日本 a-b_c%20"
