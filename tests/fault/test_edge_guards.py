"""What clients send is bounded and harmless before it is understood: keys, paths, bodies, heads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPResponse

import httpx
import pytest

from bandstand_bentos.connections import RESERVED
from bandstand_bentos.wiring import GATEWAY
from bandstand_client.http import Bandstand
from harness.recordings import tone
from harness.serving import Server, serving
from tests.bad_manners import connection, most_memory, send_until_answered

BLANK = " "
JSON_LIMIT = 16 * 1024
HEADER_SECONDS = 3
MOST_CONNECTIONS = 40
HUGE = 64 * 1024 * 1024
ASK = b"POST %s HTTP/1.1\r\nHost: b\r\nContent-Type: %s\r\n%s\r\n\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("guarded") / "log",
        admin_key=BLANK,
        log_format="text",
        max_connections=MOST_CONNECTIONS,
        client_share=0.5,
        header_seconds=HEADER_SECONDS,
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
    until_logged(guarded, f"{method}\\n")  # after the answer
    lines = guarded.log.read_text(encoding="utf-8").split("\n")
    (line,) = [line for line in lines if f"{method}\\n" in line]
    assert forged in line
    assert line.isprintable()
    assert not any(line.startswith(forged) for line in lines)


# Bodies.


@pytest.mark.parametrize("media", [b"application/json", b"APPLICATION/json; charset=utf-16"])
@pytest.mark.parametrize("framing", [b"Content-Length: %d" % HUGE, b"Transfer-Encoding: chunked"])
def test_a_huge_json_body_is_refused_before_it_is_read(
    guarded: Server, media: bytes, framing: bytes
) -> None:
    nested = b"[" + b"[]," * 20_000
    piece = b"%x\r\n%s\r\n" % (len(nested), nested) if b"chunked" in framing else nested
    before = most_memory(guarded)
    refused = send_until_answered(
        guarded.url,
        ASK % (b"/predict", media, framing),
        (piece for _ in range(HUGE // len(nested))),
    )
    assert (refused.status, b'"payload_too_large"' in refused.body) == (413, True)
    assert refused.bytes_sent < HUGE / 2
    assert most_memory(guarded) - before < HUGE / 2


@pytest.mark.parametrize("bytes_more", [0, 1])
def test_json_is_read_up_to_its_limit(guarded: Server, bytes_more: int) -> None:
    body = b'{"audio_url": "http://not.https/"}'.ljust(JSON_LIMIT + bytes_more)
    answer = httpx.post(
        f"{guarded.url}/predict", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == (413 if bytes_more else 400)


@pytest.mark.parametrize("name", [b"/load", b"/unload"])
def test_no_key_means_no_body_is_read(guarded: Server, name: bytes) -> None:
    head = ASK % (b"/models/genre_features" + name, b"text/plain", b"Content-Length: %d" % HUGE)
    refused = send_until_answered(guarded.url, head, (bytes(65_536) for _ in range(1024)))
    assert refused.status == 403


@pytest.mark.parametrize("media", ["", "text/json", "application/x-www-form-urlencoded", "\u00e9"])
def test_json_under_another_name_is_no_json(guarded: Server, media: str) -> None:
    answer = httpx.post(
        f"{guarded.url}/predict",
        content=b"[" * 100_000,
        headers={"Content-Type": media.encode("latin-1")},
    )
    assert (answer.status_code, answer.json()["error_type"]) == (415, "not_audio")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000,
        b'{"top_k": ' + b"9" * 9_000 + b', "audio_url": "https://a.b/"}',
        b'{"\\ud800": 1, "audio_url": "https://a.b/"}',
        b'{"audio_url": "https://\\ud800/"}',
        b'{"audio_url": NaN}',
        b"\xff\xfe",
    ],
    ids=["nested", "digits", "half a pair", "half a pair in the address", "NaN", "no text"],
)
def test_json_that_hurts_is_malformed(guarded: Server, body: bytes) -> None:
    answer = httpx.post(
        f"{guarded.url}/predict", content=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error_type"]) == (400, "malformed_request")


@pytest.mark.parametrize(
    "body",
    [
        PART % b"top_k" + b"3" * 100_000 + b"\r\n--b--\r\n",
        (PART % b"a" + b"\r\n") * 100_000 + b"--b--\r\n",
        b"\r\n" * 1_000_000,
        b"x" * 1_000_000,
        b"--b" * 300_000,
        b"--b\r\n" + b"A: b\r\n" * 100_000,
        b"--b\r\nA: " + b"b" * 1_000_000,
    ],
    ids=["large field", "parts", "preamble", "noise", "boundaries", "headers", "header"],
)
def test_multipart_without_end_is_malformed(guarded: Server, body: bytes) -> None:
    answer = httpx.post(
        f"{guarded.url}/predict",
        content=body,
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert (answer.status_code, answer.json()["error_type"]) == (400, "malformed_request")


@pytest.mark.parametrize(
    "parameters",
    ["", "; boundary=", f"; boundary={'b' * 10_000}", "; boundary=b; charset=undefined"],
)
def test_odd_multipart_parameters_are_malformed(guarded: Server, parameters: str) -> None:
    answer = httpx.post(
        f"{guarded.url}/predict",
        content=PART % b"file" + b"\r\n--b--\r\n",
        headers={"Content-Type": f"multipart/form-data{parameters}"},
    )
    assert (answer.status_code, answer.json()["error_type"]) == (400, "malformed_request")


@pytest.mark.parametrize("boundary", ["b", "b" * 16])
def test_half_boundaries_do_not_stop_the_parser(guarded: Server, boundary: str) -> None:
    half = f"\r\n--{boundary}-".encode()
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    answer = httpx.post(
        f"{guarded.url}/predict",
        content=head.encode() + half * (8_000_000 // len(half)) + half + b"-\r\n",
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        timeout=60,
    )
    assert (answer.status_code, answer.json()["error_type"]) == (400, "malformed_request")
    assert "more often" in answer.json()["error"]


def test_a_client_that_leaves_half_way_writes_no_traceback(guarded: Server) -> None:
    with connection(guarded.url) as opened:
        opened.sendall(ASK % (b"/predict", b"audio/wav", b"Content-Length: 100"))
    until_logged(guarded, "POST /predict 499")
    assert "Traceback" not in guarded.log.read_text()


# Heads and connections; `tests/contract/test_http_seam.py` has each case.


def test_headers_without_end_are_refused(guarded: Server) -> None:
    before = most_memory(guarded)
    head = b"GET /livez HTTP/1.1\r\nHost: b\r\nA: "
    refused = send_until_answered(guarded.url, head, (bytes(b"a" * 65_536) for _ in range(1024)))
    assert (refused.status, b'"headers_too_large"' in refused.body) == (431, True)
    assert most_memory(guarded) - before < HUGE / 2


def test_a_url_without_end_is_refused(guarded: Server) -> None:
    status, body = exchange(guarded, b"GET /%s HTTP/1.1\r\nHost: b\r\n\r\n" % (b"x" * 9_000))
    assert (status, b'"url_too_long"' in body) == (414, True)


@pytest.mark.parametrize("half", [b"", b"GET /li", b"GET /livez HTTP/1.1\r\nHost: b\r\n"])
def test_silence_holds_no_connection(guarded: Server, half: bytes) -> None:
    with connection(guarded.url) as opened:
        opened.sendall(half)
        answer = b"".join(iter(lambda: opened.recv(4096), b""))
    if half:
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"request_timeout"' in answer
    else:
        assert answer == b""


def test_a_flood_of_connections_keeps_nobody_out(guarded: Server) -> None:
    with ExitStack() as stack:
        for address in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
            for _ in range(2 * MOST_CONNECTIONS):
                opened = stack.enter_context(connection(guarded.url, address))
                with suppress(ConnectionError):  # closed to make room
                    opened.sendall(b"GET /livez HT")
        process = guarded.worker(GATEWAY)
        with Bandstand(guarded.url, retries=0) as client:
            assert client.classify(tone(1.0)).primary_genre
        held = [c for c in process.net_connections("tcp") if c.status == "ESTABLISHED"]
        assert len(held) <= MOST_CONNECTIONS + RESERVED


def test_requests_in_progress_take_no_connection_of_a_probe(guarded: Server) -> None:
    half = ASK % (b"/predict", b"audio/wav", b"Content-Length: 100000")
    share = MOST_CONNECTIONS // 2
    with ExitStack() as stack:
        for address in ("127.0.0.2", "127.0.0.3"):
            for _ in range(share):
                stack.enter_context(connection(guarded.url, address)).sendall(half)
        until(lambda: len(guarded.worker(GATEWAY).net_connections("tcp")) >= 2 * share)
        for path in ("/livez", "/readyz", "/metrics"):
            assert httpx.get(guarded.url + path, timeout=60).status_code == 200
        assert httpx.get(f"{guarded.url}/models", timeout=60).status_code == 429


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def until_logged(server: Server, text: str) -> None:
    """Wait until the log has a text."""
    until(lambda: text in server.log.read_text(encoding="utf-8"))
