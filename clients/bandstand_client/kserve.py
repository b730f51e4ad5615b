"""KServe v2 as values: the request of each call to Triton, and the parser of its answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from bandstand_client.contract.declaration import Operation
from bandstand_client.contract.models import IndexedModel, ModelIndex
from bandstand_client.contract.shared import Health
from bandstand_client.errors import (
    BandstandClientError,
    DeadlineError,
    RefusedError,
    ServerError,
    UnavailableError,
    error_class,
)
from bandstand_client.reading import read
from bandstand_client.triton_control import REFUSAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

T = TypeVar("T")

_AUDIO, _OPTIONS, _ANSWER = "audio", "options", "answer"
_READY = "READY"

# The format of Bandstand's errors in the messages of its models on Triton.
_TYPED = re.compile(r"\[(\d{3}) ([a-z_]+)\] (.*)", re.DOTALL)
# Triton's own errors: the status and the name of the same refusal over HTTP.
_BY_CODE = {
    "NOT_FOUND": (404, "model_not_found"),
    "INVALID_ARGUMENT": (400, "malformed_request"),
    "OUT_OF_RANGE": (400, "malformed_request"),
    "UNAUTHENTICATED": (401, "unauthorized"),
    "PERMISSION_DENIED": (403, "forbidden"),
    "RESOURCE_EXHAUSTED": (413, "payload_too_large"),
    "INTERNAL": (500, "internal_error"),
}
_NOT_LOADED = "has no available versions"


@dataclass(frozen=True, slots=True)
class Inference:
    """The outputs of one model."""

    model: str
    version: int
    outputs: dict[str, Array]


@dataclass(frozen=True, slots=True)
class InferCall(Generic[T]):
    """One inference and the parser of its answer."""

    model: str
    inputs: Mapping[str, Array]
    interpret: Callable[[Inference], T]
    version: int | None = None


def ask(
    operation: Operation[..., T], content: bytes, options: Mapping[str, object]
) -> InferCall[T]:
    """Return the call of an operation on encoded audio with the given options."""
    inputs = {_AUDIO: _one(content)}
    given = {name: value for name, value in options.items() if value is not None}
    if given:
        inputs[_OPTIONS] = _one(json.dumps(given).encode())
    return InferCall(operation.triton_model, inputs, partial(_read_answer, operation.answer))


def arrays(model: str, inputs: Mapping[str, Array], version: int | None) -> InferCall[Inference]:
    """Return the call of any model with arrays, batch axis first."""
    return InferCall(model, inputs, lambda inference: inference, version)


def read_inference(model: str, result: Any) -> Inference:
    """Read tritonclient's `InferResult`."""
    response = result.get_response()
    return Inference(
        model,
        int(response.model_version or 0),
        {tensor.name: result.as_numpy(tensor.name) for tensor in response.outputs},
    )


def read_index(response: Any) -> ModelIndex:
    """Read a `RepositoryIndexResponse`."""
    return ModelIndex(
        tuple(
            IndexedModel(
                entry.name,
                int(entry.version) if entry.version else None,
                entry.state or "UNAVAILABLE",
                entry.reason,
            )
            for entry in response.models
        )
    )


def read_health(ready: bool, version: str, index: ModelIndex) -> Health:
    """Return the state of a server; unloaded models do not make it degraded."""
    checks = {
        model.name: "ok" if model.state == _READY else model.reason or model.state.lower()
        for model in index.models
        if model.version is not None and model.reason != "unloaded"
    }
    return Health("ok" if ready else "degraded", version, checks)


def require_ready(health: Health) -> Health:
    """Return `health` if the server is ready.

    Raises:
        UnavailableError: it is not.
    """
    if health.status == "ok":
        return health
    missing = "; ".join(
        f"{part}: {fault}" for part, fault in health.checks.items() if fault != "ok"
    )
    raise UnavailableError(
        f"the server is not ready ({missing or health.status})", status=503, error_type="not_ready"
    )


def error_of(message: str, status: str | None, request_id: str) -> BandstandClientError:
    """Return the error of an `InferenceServerException`.

    Args:
        message: its `message()`, which contains Bandstand's typed refusal, or Triton's message.
        status: its `status()`, such as `StatusCode.UNAVAILABLE`; None: tritonclient's own.
        request_id: of the call.
    """
    typed = _TYPED.search(message)
    if typed is not None:
        code = int(typed[1])
        return error_class(code)(
            typed[3].strip(), status=code, error_type=typed[2], request_id=request_id
        )
    name = (status or "").rpartition(".")[2]
    if REFUSAL in message:  # its code is that of a server that cannot be reached
        message, name = "the server does this only for its administrator", "PERMISSION_DENIED"
    if name in ("UNAVAILABLE", "CANCELLED"):
        return UnavailableError(message, error_type="connection_failed", request_id=request_id)
    if name == "DEADLINE_EXCEEDED":
        return DeadlineError(
            "the server did not answer in time", error_type="read_timeout", request_id=request_id
        )
    if name == "NOT_FOUND" and _NOT_LOADED in message:
        return RefusedError(
            message, status=409, error_type="model_not_installed", request_id=request_id
        )
    if name in _BY_CODE:
        code, error_type = _BY_CODE[name]
        return error_class(code)(message, status=code, error_type=error_type, request_id=request_id)
    return ServerError(message, error_type=name.lower() or "client_error", request_id=request_id)


def _one(content: bytes) -> Array:
    """Return a batch of one, of one element."""
    array = np.empty((1, 1), np.object_)
    array[0, 0] = content
    return array


def _read_answer(kind: type[T], inference: Inference) -> T:
    try:
        return read(kind, json.loads(inference.outputs[_ANSWER].reshape(-1)[0]))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ServerError(
            f"the answer of {inference.model} cannot be read: {error}",
            error_type="malformed_answer",
        ) from error
