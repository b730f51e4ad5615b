"""What every BentoML service of Bandstand is configured with, and why."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

from bandstand.settings import Settings, get_settings
from bandstand.telemetry import tracer_provider
from bandstand_bentos.seam import use_tracer_provider

GATEWAY = "bandstand"
PREPROCESSOR = "preprocessor"

# Threads share the interpreter lock in the parts that are Python; four keep it loaded with the
# parts that are not (decoding, transforms, filters).
_THREADS_A_PREPROCESSOR = 4
_GRACE_SECONDS = 30.0


def preprocess_layout(settings: Settings, cores: int) -> tuple[int, int]:
    """Return (processes, threads in each) of the preprocessor for this machine."""
    workers = settings.preprocess_workers or -(-cores // _THREADS_A_PREPROCESSOR)
    return workers, max(1, -(-cores // workers))


def service_config(settings: Settings) -> dict[str, Any]:
    """Return the part of a service's configuration that all of ours share.

    `runner_connection`: by default a session is closed after 100 calls with others in flight.
    `timeout`: ours, in the gateway, comes first and answers in our words.
    `metrics`, `logging`: the gateway's own say more and cost less.
    """
    return {
        "traffic": {"timeout": settings.request_deadline_seconds + _GRACE_SECONDS},
        "runner_connection": {"max_requests": 10**9, "max_age": 1e9},
        "metrics": {"enabled": False},
        "logging": {"access": {"enabled": False}},
    }


def _share_tracer_provider() -> None:
    """Have BentoML's tracing middleware, and our own spans, use one provider.

    At import: BentoML builds its middleware before any start-up hook runs.
    """
    settings = get_settings()
    provider = tracer_provider(settings)
    # Without an endpoint it would open spans around every chunk of every body, for nobody.
    use_tracer_provider(provider, spans_of_requests=settings.otlp_endpoint is not None)
    trace.set_tracer_provider(provider)


_share_tracer_provider()
