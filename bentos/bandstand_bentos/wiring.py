"""The configuration that all BentoML services of Bandstand share."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

from bandstand.settings import Settings, get_settings
from bandstand.telemetry import tracer_provider
from bandstand_bentos.seam import use_tracer_provider

GATEWAY = "bandstand"
PREPROCESSOR = "preprocessor"

# Threads share the interpreter lock for Python code; decoding, transforms and filters release it.
# Four threads keep the lock busy.
_THREADS_A_PREPROCESSOR = 4
_GRACE_SECONDS = 30.0


def preprocess_layout(settings: Settings, cores: int) -> tuple[int, int]:
    """Return (processes, threads in each) of the preprocessor for this machine."""
    workers = settings.preprocess_workers or -(-cores // _THREADS_A_PREPROCESSOR)
    return workers, max(1, -(-cores // workers))


def service_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration that all services share.

    `runner_connection`: by default a session is closed after 100 calls, also with calls in flight.
    `timeout`: longer than the gateway's deadline, which answers with our error.
    `metrics`, `logging`: off, because the gateway's have more detail and cost less.
    """
    return {
        "traffic": {"timeout": settings.request_deadline_seconds + _GRACE_SECONDS},
        "runner_connection": {"max_requests": 10**9, "max_age": 1e9},
        "metrics": {"enabled": False},
        "logging": {"access": {"enabled": False}},
    }


def _share_tracer_provider() -> None:
    """Make BentoML's tracing middleware and our own spans use one provider.

    Called at import, because BentoML builds its middleware before any start-up hook runs.
    """
    settings = get_settings()
    provider = tracer_provider(settings)
    # Without an endpoint it would open spans for every chunk of every body that are never exported.
    use_tracer_provider(provider, spans_of_requests=settings.otlp_endpoint is not None)
    trace.set_tracer_provider(provider)


_share_tracer_provider()
