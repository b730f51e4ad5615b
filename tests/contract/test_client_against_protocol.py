"""The clients against a server that plays the documented protocol, and its faults."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bandstand.operations.encoding import to_json
from bandstand_client import errors
from bandstand_client.concurrency import as_they_finish
from bandstand_client.contract.genre import GenreAnswer, GenreScore
from bandstand_client.http import AsyncBandstand, Bandstand
from bandstand_client.policy import Attempts, RetryPolicy, Timeouts, may_retry, parse_retry_after
from bandstand_client.reading import read

GENRE: dict[str, Any] = {
    "primary_genre": "jazz",
    "probability": 0.93,
    "confidence": 93,
    "predictions": [{"genre": "jazz", "probability": 0.93, "confidence": 93.0, "raw_score": 2.5}],
    "all_scores": {"jazz": 0.93, "rock": 0.07},
    "method": "genre_features",
    "members": [{"model": "genre_features", "version": 1, "weight": 1.0, "reason": None}],
    "audio": {"duration_seconds": 3.0, "sha256": "ab", "sample_rate": 44100, "truncated": False},
    "timings_ms": {"total": 12.5},
    "a_field_of_the_future": {"x": 1},
}
HEALTH = {"status": "ok", "version": "0.1.0", "checks": {"genre_features": "ok"}}
KEY = "a-secret-key"

Behaviour = Callable[["_Handler"], None]


class _Handler(BaseHTTPRequestHandler):
    """Plays the next behaviour of the script; the last one is played for ever."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Play it."""
        script = self.server.script
        self.server.received.append(self)
        behaviour = script.pop(0) if len(script) > 1 else script[0]
        self.close_connection = True
        behaviour(self)

    do_POST = do_GET  # noqa: N815

    def body(self) -> bytes:
        """Read what was sent."""
        self.sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return self.sent

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    script: list[Behaviour]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[_Handler] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def reply(content: object, status: int = 200, **headers: str) -> Behaviour:
    def play(handler: _Handler) -> None:
        handler.body()
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return play


def refuse(status: int, error_type: str = "some_type", **headers: str) -> Behaviour:
    content = {"error": "no, because", "error_type": error_type, "request_id": "r-1"}
    return reply(content, status, **headers)


def hang(handler: _Handler) -> None:
    handler.server.over.wait()


def cut_before_the_answer(handler: _Handler) -> None:
    handler.body()
    handler.connection.shutdown(socket.SHUT_RDWR)


def cut_in_mid_answer(handler: _Handler) -> None:
    handler.body()
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"primary_')


Ask = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, server: _Server) -> Ask:
    """Call a method of either client: `ask(lambda client: client.health(), retries=0)`."""

    def sync(method: Callable[[Any], Any], url: str = server.url, **options: Any) -> Any:
        with Bandstand(url, **options) as client:
            return method(client)

    async def in_loop(method: Callable[[Any], Any], url: str, options: dict[str, Any]) -> Any:
        async with AsyncBandstand(url, **options) as client:
            return await method(client)

    def asynchronous(method: Callable[[Any], Any], url: str = server.url, **options: Any) -> Any:
        return asyncio.run(in_loop(method, url, options))

    return sync if request.param == "sync" else asynchronous


def test_genre_arrives_typed_and_unknown_fields_do_no_harm(server: _Server, ask: Ask) -> None:
    server.script = [reply(GENRE)]
    result = ask(lambda c: c.classify(b"audio", model_name="genre_features", top_k=5), api_key=KEY)
    assert result.primary_genre == "jazz"
    assert result.predictions == (GenreScore("jazz", 0.93, 93.0, 2.5),)
    assert isinstance(result.confidence, float)
    sent = server.received[0]
    assert sent.sent == b"audio"
    assert sent.path == "/predict?model_name=genre_features&top_k=5"
    assert sent.headers["Content-Type"] == "application/octet-stream"
    assert sent.headers["Authorization"] == f"Bearer {KEY}"
    assert sent.headers["X-Request-ID"]


def test_instruments_arrive_typed_and_what_was_asked_for_is_sent(server: _Server, ask: Ask) -> None:
    violin = {"instrument": "violin", "label": "instrument---violin", "confidence": 45.0}
    violin |= {"probability": 0.45}
    violin |= {"raw_score": -0.2, "sound": "acoustic"}
    shared = {name: GENRE[name] for name in ("method", "members", "audio", "timings_ms")}
    answer = {"primary": "violin", "has_acoustic": True, "has_electronic": False, **shared}
    answer |= {"instruments": [violin], "threshold": 0.25, "all_scores": {"violin": 0.45}}
    server.script = [reply(answer)]
    asked = {"model_name": "tags_jamendo", "threshold": 0.25}
    result = ask(lambda c: c.detect_instruments(b"audio", **asked))
    (score,) = result.instruments
    assert (score.instrument, score.sound, result.primary) == ("violin", "acoustic", "violin")
    assert server.received[0].path == "/detect/instruments?model_name=tags_jamendo&threshold=0.25"
    server.script = [reply(answer | {"instruments": [], "primary": None, "has_acoustic": False})]
    assert ask(lambda c: c.detect_instruments("https://example.org/a.mp3")).primary is None
    assert server.received[1].path == "/detect/instruments"
    assert json.loads(server.received[1].sent) == {"audio_url": "https://example.org/a.mp3"}


@pytest.mark.parametrize("form", ["path", "str", "file"])
def test_audio_may_be_a_path_or_a_file(form: str, server: _Server, ask: Ask, tmp_path) -> None:
    server.script = [reply(GENRE)]
    path = tmp_path / "a.wav"
    path.write_bytes(b"from a file")
    audio = {"path": path, "str": str(path), "file": io.BytesIO(b"from a file")}[form]
    ask(lambda c: c.classify(audio))
    assert server.received[0].sent == b"from a file"
    assert server.received[0].path == "/predict"


def test_url_is_left_to_the_server(server: _Server, ask: Ask) -> None:
    server.script = [reply(GENRE)]
    ask(lambda c: c.classify("https://example.org/a.mp3"))
    assert json.loads(server.received[0].sent) == {"audio_url": "https://example.org/a.mp3"}
    assert server.received[0].headers["Content-Type"] == "application/json"


def test_wrong_arguments_are_programming_errors(server: _Server, ask: Ask) -> None:
    with pytest.raises(TypeError):
        ask(lambda c: c.classify())
    with pytest.raises(TypeError, match="topk"):
        ask(lambda c: c.classify(b"audio", topk=5))
    with pytest.raises(TypeError, match="threshold"):
        ask(lambda c: c.analyze_features(b"audio", threshold=0.5))
    with pytest.raises(FileNotFoundError):
        ask(lambda c: c.classify("/no/such/file"))
    assert server.received == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.RefusedError),
        (401, errors.AuthenticationError),
        (403, errors.AuthenticationError),
        (404, errors.NotFoundError),
        (409, errors.RefusedError),
        (413, errors.TooLargeError),
        (415, errors.InvalidAudioError),
        (422, errors.InvalidAudioError),
        (500, errors.ServerError),
        (502, errors.ServerError),
        (504, errors.DeadlineError),
    ],
)
def test_refusals_are_typed_and_never_repeated(
    status: int, kind: type[errors.BandstandClientError], server: _Server, ask: Ask
) -> None:
    server.script = [refuse(status)]
    with pytest.raises(kind, match="no, because") as caught:
        ask(lambda c: c.classify(b"audio"))
    assert (caught.value.status, caught.value.error_type) == (status, "some_type")
    assert caught.value.request_id == "r-1"
    assert len(server.received) == 1


@pytest.mark.parametrize(
    "fault", [refuse(429, Retry_After="0"), refuse(503), cut_before_the_answer]
)
def test_what_was_not_answered_is_asked_again(fault: Behaviour, server: _Server, ask: Ask) -> None:
    server.script = [fault, fault, reply(GENRE)]
    assert ask(lambda c: c.classify(b"audio")).primary_genre == "jazz"
    assert [handler.headers["X-Request-ID"] for handler in server.received] == [
        server.received[0].headers["X-Request-ID"]
    ] * 3


def test_overload_that_stays_is_reported_with_its_retry_after(server: _Server, ask: Ask) -> None:
    server.script = [refuse(429, "overloaded", Retry_After="0.01")]
    with pytest.raises(errors.OverloadedError) as caught:
        ask(lambda c: c.classify(b"audio"), retries=1)
    assert caught.value.retry_after == 0.01
    assert len(server.received) == 2


def test_wait_longer_than_the_deadline_is_not_begun(server: _Server, ask: Ask) -> None:
    server.script = [refuse(503, "unavailable", Retry_After="3600")]
    with pytest.raises(errors.UnavailableError) as caught:
        ask(lambda c: c.classify(b"audio"))
    assert caught.value.retry_after == 3600
    assert len(server.received) == 1


def test_hanging_server_is_a_deadline_and_not_asked_again(server: _Server, ask: Ask) -> None:
    server.script = [hang]
    with pytest.raises(errors.DeadlineError):
        ask(lambda c: c.classify(b"audio"), timeout=Timeouts(read=0.2))
    assert len(server.received) == 1


def test_dripping_server_is_cut_off_at_the_total(server: _Server, ask: Ask) -> None:
    def drip(handler: _Handler) -> None:
        handler.body()
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        while not handler.server.over.wait(0.02):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return

    server.script = [drip]
    with pytest.raises(errors.DeadlineError, match=r"0\.3 s"):
        ask(lambda c: c.classify(b"audio"), timeout=Timeouts(total=0.3))
    assert len(server.received) == 1


def test_answer_cut_in_the_middle_is_not_asked_again(server: _Server, ask: Ask) -> None:
    server.script = [cut_in_mid_answer]
    with pytest.raises(errors.UnavailableError, match="lost during the answer"):
        ask(lambda c: c.classify(b"audio"))
    assert len(server.received) == 1


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"primary_genre": 3}', b"\xff"])
def test_malformed_answers_are_server_errors(body: bytes, server: _Server, ask: Ask) -> None:
    server.script = [reply(body)]
    with pytest.raises(errors.ServerError) as caught:
        ask(lambda c: c.classify(b"audio"))
    assert caught.value.error_type == "malformed_answer"


def test_page_of_a_proxy_is_an_error_too(server: _Server, ask: Ask) -> None:
    server.script = [reply(b"<html>Bad Gateway</html>", 502, X_Request_ID="p-7")]
    with pytest.raises(errors.ServerError, match="Bad Gateway") as caught:
        ask(lambda c: c.classify(b"audio"))
    assert (caught.value.error_type, caught.value.request_id) == ("http_502", "p-7")


def test_refusal_before_the_upload_is_read_is_heard(server: _Server, ask: Ask) -> None:
    def refuse_early(handler: _Handler) -> None:
        body = b'{"error": "too much", "error_type": "payload_too_large"}'
        handler.send_response(413)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        handler.connection.shutdown(socket.SHUT_WR)
        while handler.rfile.read1(1 << 20):  # a polite server: the refusal is not lost to a reset
            pass

    server.script = [refuse_early]
    with pytest.raises(errors.TooLargeError, match="too much"):
        ask(lambda c: c.classify(bytes(8 << 20)))
    assert len(server.received) == 1


def test_no_server_is_unavailable(ask: Ask) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(errors.UnavailableError) as caught:
        ask(lambda c: c.health(), url=url, retries=0)
    assert caught.value.status is None


def test_health_is_told_while_not_ready(server: _Server, ask: Ask) -> None:
    server.script = [reply({**HEALTH, "status": "draining"}, 503, Retry_After="5")]
    assert ask(lambda c: c.health()).status == "draining"


def test_wait_ready_outlasts_a_starting_server(server: _Server, ask: Ask) -> None:
    starting = reply({**HEALTH, "status": "starting"}, 503, Retry_After="5")
    server.script = [starting, cut_before_the_answer, starting, reply(HEALTH)]
    assert ask(lambda c: c.wait_ready(30), retries=0).status == "ok"
    assert len(server.received) == 4
    assert server.received[0].path == "/readyz"


def test_wait_ready_says_what_is_missing(server: _Server, ask: Ask) -> None:
    checks = {"genre_features": "loading", "preprocessor": "ok"}
    server.script = [reply({**HEALTH, "status": "starting", "checks": checks}, 503)]
    with pytest.raises(errors.UnavailableError, match=r"\(genre_features: loading\)"):
        ask(lambda c: c.wait_ready(0.3))


def test_wait_ready_gives_up_at_once_on_what_waiting_will_not_mend(
    server: _Server, ask: Ask
) -> None:
    server.script = [refuse(401)]
    with pytest.raises(errors.AuthenticationError):
        ask(lambda c: c.wait_ready(30))
    assert len(server.received) == 1


def test_model_names_cannot_leave_their_path(server: _Server, ask: Ask) -> None:
    server.script = [reply({"name": "x", "version": 2, "quality": [], "report": {"clips": [1]}})]
    assert ask(lambda c: c.model_metrics("../a b")).report == {"clips": [1]}
    assert server.received[0].path == "/models/..%2Fa%20b/metrics"


def test_key_stands_in_no_repr_and_no_log(
    server: _Server, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [refuse(401)]
    with caplog.at_level(logging.INFO), pytest.raises(errors.AuthenticationError) as caught:
        ask(lambda c: c.models(), api_key=KEY)
    with Bandstand(server.url.replace("//", "//user:word@"), api_key=KEY) as client:
        seen = f"{client!r} {caught.value!r} {caplog.text}"
    assert KEY not in seen
    assert "word" not in seen
    with pytest.raises(ValueError, match="api_key") as refused:
        Bandstand(api_key=f"{KEY}\n")
    assert KEY not in str(refused.value)


def test_unusable_settings_are_refused() -> None:
    for options in ({"base_url": "localhost:3000"}, {"retries": -1}, {"timeout": 0}):
        with pytest.raises(ValueError, match=r"base_url|retries|timeouts"):
            Bandstand(**options)  # type: ignore[arg-type]


def test_errors_survive_pickling() -> None:
    error = errors.OverloadedError("full", status=429, retry_after=2.0)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copy), vars(copy)) == (type(error), vars(error))


async def test_many_keep_n_in_flight_and_report_each(server: _Server) -> None:
    lock = threading.Lock()
    together = threading.Barrier(4)
    now, most = 0, 0

    def play(handler: _Handler) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait(10)  # four arrive, or the test fails
        with lock:
            now -= 1
        (refuse(415) if handler.headers["Content-Length"] == "3" else reply(GENRE))(handler)

    server.script = [play]
    audios = [b"bad" if i == 5 else str(i).encode() for i in range(12)]
    seen: dict[bytes, object] = {}
    async with AsyncBandstand(server.url) as client:
        async for audio, result in client.classify.many(iter(audios), concurrency=4):
            seen[audio] = result
    assert seen.keys() == set(audios)
    assert isinstance(seen.pop(b"bad"), errors.InvalidAudioError)
    assert all(isinstance(result, GenreAnswer) for result in seen.values())
    assert most == 4


async def test_leaving_the_loop_cancels_what_is_in_flight() -> None:
    cancelled = []

    async def work(item: int) -> int:
        try:
            await asyncio.sleep(0 if item == 0 else 3600)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    async with aclosing(as_they_finish(work, range(1_000_000), 3)) as finished:
        async for item, task in finished:
            assert (item, task.result()) == (0, 0)
            break
    assert sorted(cancelled) == [1, 2]


def test_pauses_honour_the_server_and_grow() -> None:
    policy = RetryPolicy(retries=3, first_pause=1.0, longest_pause=2.0)
    attempts = Attempts(policy, Timeouts(total=100.0), clock=lambda: 0.0)
    busy = errors.OverloadedError("full", retry_after=7.0)
    pauses = [attempts.pause_before_next(busy) for _ in range(3)]
    assert all(7.0 <= pause <= 9.0 for pause in pauses)
    with pytest.raises(errors.OverloadedError):
        attempts.pause_before_next(busy)
    assert max(policy.pause(0) for _ in range(1000)) <= 1.0
    assert policy.pause(10_000) <= 2.0


def test_only_the_unanswered_may_be_repeated() -> None:
    assert may_retry(errors.OverloadedError())
    assert may_retry(errors.UnavailableError())
    assert not may_retry(errors.UnavailableError(error_type="connection_cut"))
    assert not may_retry(errors.DeadlineError())
    assert not may_retry(errors.ServerError())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        *((header, None) for header in (None, "", "soon", "nan", "inf")),
    ],
)
def test_retry_after_is_read_in_all_its_forms(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


def test_the_servers_answers_are_read_as_they_were() -> None:
    answer = read(GenreAnswer, GENRE)
    assert read(GenreAnswer, json.loads(to_json(answer))) == answer


def test_clients_need_nothing_of_the_rest() -> None:
    script = (
        "import sys, bandstand_client.http\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*sorted(roots & {'bandstand', 'bentoml', 'numpy', 'pydantic', 'av'}))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert output.stdout.decode().strip() == ""
