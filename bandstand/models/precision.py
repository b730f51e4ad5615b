"""The arithmetic that a model's weights are stored in."""

from __future__ import annotations

from typing import Literal

WeightPrecision = Literal["fp32", "int8", "fp16"]
"""`int8`: weights of matrix products, for CPUs. `fp16`: all weights, for GPUs."""
