"""Which benchmarks there are."""

from __future__ import annotations

NAMES = (
    "features",
    "overhead",
    "against_peers",
    "gateway_on_triton",
    "triton_batching",
    "perf_analyzer",
    "endurance",
    "sustained",
    "hostile_clients",
    "first_answer",
    "transformers_speed",
    "host_front_ends",
    "mel_cnn_http",
    "heavy_model",
    "runner_memory",
    "export_memory",
)
"""Modules of this package, in the order in which they are run and stand on the page."""
