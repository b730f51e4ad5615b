"""What clients send is bounded and harmless before it is understood: keys, paths, bodies, heads."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest

from bandstand_client.http import Bandstand
from harness.recordings import tone
from harness.serving import Server, serving
from tests.bad_manners import connection

BLANK = " "


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("guarded") / "log", admin_key=BLANK, log_format="text"
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def answers_afterwards(guarded: Server) -> Iterator[None]:
    yield
    with Bandstand(guarded.url) as client:
        assert client.classify(tone(1.0)).primary_genre


def exchange(server: Server, request: bytes) -> tuple[int, bytes]:
    """Send bytes and return the answer's status and body."""
    with connection(server.url) as opened:
        opened.sendall(request)
        response = HTTPResponse(opened)
        response.begin()
        return response.status, response.read()


# Keys.


@pytest.mark.parametrize("key", [b"Bearer ", b"Bearer", b"Bearer  ", b""])
def test_a_blank_key_opens_nothing(guarded: Server, key: bytes) -> None:
    status, body = exchange(
        guarded,
        b"POST /models/genre_features/unload HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n"
        b"Authorization: %s\r\n\r\n" % key,
    )
    assert (status, b'"model_control_off"' in body) == (403, True)


# Logs.


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_path_forges_a_line_of_the_log(guarded: Server, method: str) -> None:
    forged = "2026-01-01 00:00:00,000 INFO    POST /forged 200"
    path = f"/{method}%0a{forged.replace(' ', '%20')}%0d%1b[31m%c2%85%e2%80%a8"
    assert httpx.request(method, guarded.url + path).status_code == 404
    lines = Path(guarded.log).read_text(encoding="utf-8").split("\n")
    (line,) = [line for line in lines if f"{method}\\n" in line]
    assert forged in line
    assert line.isprintable()
    assert not any(line.startswith(forged) for line in lines)
