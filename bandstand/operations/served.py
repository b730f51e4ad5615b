"""The operations that this installation answers: over HTTP, on Triton and in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bandstand.pipelines.features import analyze_features
from bandstand.pipelines.genre import classify
from bandstand.pipelines.instruments import detect_instruments
from bandstand.pipelines.resources import Resources
from bandstand_client.contract.declaration import Operation
from bandstand_client.contract.features import ANALYZE_FEATURES
from bandstand_client.contract.genre import CLASSIFY
from bandstand_client.contract.instruments import DETECT_INSTRUMENTS


@dataclass(frozen=True, slots=True)
class ServedOperation:
    """A declared operation and what runs it.

    Attributes:
        declared: name, path, options, answer.
        run: answers encoded audio with the operation's options; raises the refusals of
            `bandstand.errors`.
        turns: of the requests that a server works on at the same time, how many one of these
            counts for.
        triton_instances: processes that run it on Triton. In each, threads decode and transform at
            the same time; only the parts that are Python take turns.
    """

    declared: Operation[..., Any]
    run: Callable[[Resources, bytes, Any], Awaitable[Any]]
    turns: int = 1
    triton_instances: int = 1


SERVED = (
    ServedOperation(CLASSIFY, classify, triton_instances=2),
    ServedOperation(DETECT_INSTRUMENTS, detect_instruments),
    ServedOperation(ANALYZE_FEATURES, analyze_features),
)
"""All of them, in the order in which pages list them."""


BY_NAME = {operation.declared.name: operation for operation in SERVED}
