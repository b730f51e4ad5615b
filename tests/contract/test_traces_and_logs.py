"""A request's trace reaches the collector, and its id is in the logs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.recordings import tone
from harness.serving import serving

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
WAIT_SECONDS = 30.0
WORKERS = ("/prepare", "/infer")


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """Run an OTLP collector that keeps what it is sent."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def spans_of(received: list[ExportTraceServiceRequest], trace_id: str) -> set[str]:
    return {
        span.name
        for export in list(received)
        for resource in export.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if span.trace_id.hex() == trace_id
    }


def test_a_callers_trace_goes_through_every_process(tmp_path: Path) -> None:
    wanted = {"queue", "prepare", "inference"}
    with (
        collector() as (endpoint, received),
        serving(tmp_path / "server.log", otlp_endpoint=endpoint) as server,
    ):
        answer = httpx.post(
            f"{server.url}/predict",
            content=tone(2.0),
            headers={"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01", "X-Request-ID": "r-1"},
            timeout=60,
        )
        assert answer.status_code == 200
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            names = spans_of(received, TRACE_ID)
            # Beside our stages, BentoML's spans of the workers' own requests are in the trace; each
            # process exports its own in its own time.
            if wanted <= names and all(any(path in n for n in names) for path in WORKERS):
                break
            time.sleep(0.2)
        assert wanted <= names, names
        assert all(any(path in name for name in names) for path in WORKERS), names
    lines = [json.loads(x) for x in server.log.read_text().splitlines() if x.startswith("{")]
    access = next(
        x for x in lines if x["logger"] == "bandstand.access" and x["request_id"] == "r-1"
    )
    assert access["trace_id"] == TRACE_ID
    assert (access["method"], access["path"], access["status"]) == ("POST", "/predict", 200)
    assert access["bytes_in"] > 0
    assert access["milliseconds"] > 0
