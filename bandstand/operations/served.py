"""The operations of this installation: over HTTP, on Triton and in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bandstand.pipelines.features import analyze_features
from bandstand.pipelines.genre import classify, genre_model
from bandstand.pipelines.instruments import detect_instruments, instruments_model
from bandstand.pipelines.resources import Resources
from bandstand_client.contract.declaration import Operation
from bandstand_client.contract.features import ANALYZE_FEATURES
from bandstand_client.contract.genre import CLASSIFY
from bandstand_client.contract.instruments import DETECT_INSTRUMENTS


@dataclass(frozen=True, slots=True)
class ServedOperation:
    """A declared operation, with the function that runs it.

    Attributes:
        declared: name, path, options, answer.
        run: computes the answer from encoded audio and the operation's options; raises the errors
            of `bandstand.errors`.
        model: the name of the model that a request uses, by its options; None: it uses none.
        turns: how many of `max_in_flight` requests one request of this operation counts as.
        triton_instances: processes that run it on Triton. In each, threads decode and transform in
            parallel; only Python code runs in one thread at a time.
    """

    declared: Operation[..., Any]
    run: Callable[[Resources, bytes, Any], Awaitable[Any]]
    model: Callable[[Resources, Any], str] | None = None
    turns: int = 1
    triton_instances: int = 1


SERVED = (
    ServedOperation(CLASSIFY, classify, genre_model, triton_instances=2),
    ServedOperation(DETECT_INSTRUMENTS, detect_instruments, instruments_model),
    ServedOperation(ANALYZE_FEATURES, analyze_features),
)
"""All operations, in the order of the documentation pages."""


BY_NAME = {operation.declared.name: operation for operation in SERVED}
