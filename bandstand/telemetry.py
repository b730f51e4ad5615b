"""Observability: structured logs, Prometheus metrics, OpenTelemetry traces."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from opentelemetry import trace
from prometheus_client import Counter, Gauge, Histogram
from pythonjsonlogger.json import JsonFormatter

from bandstand import __version__
from bandstand.settings import Settings

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of this task's request; every log record has it."""

client: ContextVar[str] = ContextVar("client", default="")
"""The client of this task's request, for fair turns; workers get it from the gateway."""

_LATENCY_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip

REQUEST_SECONDS = Histogram(
    "bandstand_request_seconds",
    "Time from a request's first byte to its answer's last, by route and status.",
    ["method", "route", "status"],
    buckets=_LATENCY_BUCKETS,
)
STAGE_SECONDS = Histogram(
    "bandstand_stage_seconds",
    "Time of each stage of an answer (queue, fetch, decode, resample, front_end, inference, …).",
    ["stage"],
    buckets=_LATENCY_BUCKETS,
)
INFERENCE_SECONDS = Histogram(
    "bandstand_model_inference_seconds",
    "Time a model took for one batch.",
    ["model"],
    buckets=_LATENCY_BUCKETS,
)
BATCH_ROWS = Histogram(
    "bandstand_batch_rows",
    "Windows in one batch.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
BATCH_QUEUE_SECONDS = Histogram(
    "bandstand_batch_queue_seconds",
    "Time the oldest window of a batch waited for the model.",
    ["model"],
    buckets=_LATENCY_BUCKETS,
)
ERRORS = Counter("bandstand_errors", "Refusals and failures, by type.", ["error_type"])
CACHE_LOOKUPS = Counter("bandstand_feature_cache_lookups", "Feature cache lookups.", ["result"])
RETRIES = Counter("bandstand_worker_retries", "Calls repeated because a worker died.", ["worker"])
IN_FLIGHT = Gauge(
    "bandstand_requests_in_flight", "Requests in progress.", multiprocess_mode="livesum"
)
QUEUED = Gauge(
    "bandstand_requests_queued", "Requests waiting for their turn.", multiprocess_mode="livesum"
)
BODY_BYTES = Gauge(
    "bandstand_body_bytes",
    "Bytes of memory that request bodies and downloads may take.",
    multiprocess_mode="livesum",
)


class _RequestFilter(logging.Filter):
    """Adds the request id and the W3C trace id to every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        context = trace.get_current_span().get_span_context()
        record.trace_id = format(context.trace_id, "032x") if context.is_valid else "-"
        return True


_BREAKS_LINES = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
"""White space other than a plain one, control characters, and those that turn the direction of
writing: with them, a client's text could look like other lines of a log."""


def printable(text: str) -> str:
    """Return `text` with escapes in place of the characters that a line of a log must not have."""
    return _BREAKS_LINES.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _LineFormatter(logging.Formatter):
    """Writes a record as a line for people, and below it a traceback, indented.

    Paths, names and headers are chosen by clients, so neither the line nor the traceback's lines
    have characters that could begin another record.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s [%(request_id)s]")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - of the base class
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - of the base class
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"    {printable(line)}" for line in lines)


def configure_logs(settings: Settings) -> None:
    """Send all records of this process to standard error, one a line.

    Those of other packages too: a traceback of theirs can contain what a client sent.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_RequestFilter())
    if settings.log_format == "json":
        handler.setFormatter(
            JsonFormatter(
                ["asctime", "levelname", "name", "message", "request_id", "trace_id"],
                rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
                datefmt="%Y-%m-%dT%H:%M:%S%z",
            )
        )
    else:
        handler.setFormatter(_LineFormatter())
    logging.getLogger().handlers = [handler]
    logging.getLogger("uvicorn.error").handlers = []  # its records go to the root logger, too
    logging.getLogger("bandstand").setLevel(settings.log_level)


def tracer_provider(settings: Settings) -> trace.TracerProvider:
    """Return a provider that exports to the configured collector, or only propagates context."""
    if settings.otlp_endpoint is None:
        return trace.NoOpTracerProvider()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "bandstand", "service.version": __version__})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


@contextmanager
def stage(name: str, timings_ms: dict[str, float] | None = None) -> Iterator[None]:
    """Time a block as one stage: in the metrics, in a span, and in `timings_ms` if given."""
    started = perf_counter()
    with trace.get_tracer("bandstand").start_as_current_span(name):
        yield
    seconds = perf_counter() - started
    STAGE_SECONDS.labels(name).observe(seconds)
    if timings_ms is not None:
        timings_ms[name] = seconds * 1e3
