"""The HTTP API as values: the request of each call, and the parser of its answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeGuard, TypeVar
from urllib.parse import quote

from bandstand_client.contract.declaration import Audio, Operation
from bandstand_client.contract.models import ModelList, ModelMetrics, ModelSummary
from bandstand_client.contract.shared import Health
from bandstand_client.errors import BandstandClientError, ServerError, UnavailableError, error_class
from bandstand_client.policy import parse_retry_after
from bandstand_client.reading import read

T = TypeVar("T")

Content = bytes | str
"""Encoded audio, or its http(s) address."""

REQUEST_ID_HEADER = "X-Request-ID"
_OK, _UNAVAILABLE = 200, 503
_QUOTED_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP response."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and the parser of its answer."""

    method: str
    path: str
    interpret: Callable[[Reply], T]
    params: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = field(default=None, repr=False)


def ask(operation: Operation[..., T], content: Content, options: Mapping[str, object]) -> Call[T]:
    """Return the call of an operation.

    Args:
        operation: the operation to call.
        content: encoded audio, or its address.
        options: the given options.
    """
    is_address = isinstance(content, str)
    return Call(
        "POST",
        operation.path,
        partial(interpret, operation.answer),
        params={name: str(value) for name, value in options.items() if value is not None},
        headers={"Content-Type": "application/json" if is_address else "application/octet-stream"},
        content=json.dumps({"audio_url": content}).encode()
        if isinstance(content, str)
        else content,
    )


def models() -> Call[ModelList]:
    """List all models of the server, installed or not."""
    return Call("GET", "/models", partial(interpret, ModelList))


def model_metrics(name: str) -> Call[ModelMetrics]:
    """Return one model's measured quality and its export report."""
    return Call("GET", f"/models/{quote(name, safe='')}/metrics", partial(interpret, ModelMetrics))


def load_model(name: str, version: int | None = None) -> Call[ModelSummary]:
    """Load a version of a model (None: the newest); requests in flight are finished.

    Needs the administrator's key.
    """
    content = json.dumps({} if version is None else {"version": version}).encode()
    return replace(_model_change(name, "load"), content=content)


def unload_model(name: str) -> Call[ModelSummary]:
    """Unload a model; returns when its requests in flight are finished."""
    return _model_change(name, "unload")


def _model_change(name: str, change: str) -> Call[ModelSummary]:
    path = f"/models/{quote(name, safe='')}/{change}"
    json_body = {"Content-Type": "application/json"}
    return Call("POST", path, partial(interpret, ModelSummary), headers=json_body)


def health() -> Call[Health]:
    """Return the state of the server; it answers while it starts or drains, too."""
    return Call("GET", "/health", _interpret_health)


def readiness() -> Call[Health]:
    """Check whether the server is ready; otherwise it counts as unavailable."""
    return Call("GET", "/readyz", _interpret_readiness)


def content_of(audio: Audio) -> Content:
    """Return the encoded bytes of `audio`, or the address itself.

    Raises:
        OSError: a file that cannot be read.
    """
    return audio if is_address(audio) else encoded(audio)


def is_address(audio: Audio) -> TypeGuard[str]:
    """Return whether `audio` is an address, which the server must download."""
    return isinstance(audio, str) and audio.startswith(("http://", "https://"))


def encoded(audio: Audio) -> bytes:
    """Return the encoded bytes of `audio`.

    Raises:
        OSError: a file that cannot be read.
        ValueError: an address; the caller must download it.
    """
    if is_address(audio):
        raise ValueError(f"{audio} is an address, which is not downloaded here: pass its content")
    if isinstance(audio, bytes):
        return audio
    if isinstance(audio, str | Path):
        return Path(audio).read_bytes()
    return audio.read()


def interpret(kind: type[T], reply: Reply) -> T:
    """Read an answer as `kind`.

    Raises:
        BandstandClientError: it is a refusal, a failure, or does not fit `kind`.
    """
    if reply.status != _OK:
        raise error_of(reply)
    try:
        return read(kind, json.loads(reply.body))
    except ValueError as error:
        raise ServerError(
            f"the server's answer cannot be read: {error}",
            status=reply.status,
            error_type="malformed_answer",
            request_id=reply.headers.get(REQUEST_ID_HEADER),
        ) from error


def error_of(reply: Reply) -> BandstandClientError:
    """Return the error of a response, from Bandstand or from a proxy."""
    content = _json_object(reply.body)
    text = reply.body[:_QUOTED_CHARACTERS].decode("utf-8", "replace").strip()
    return error_class(reply.status)(
        str(content.get("error") or text or reply.reason or f"HTTP status {reply.status}"),
        status=reply.status,
        error_type=str(content.get("error_type") or f"http_{reply.status}"),
        request_id=content.get("request_id") or reply.headers.get(REQUEST_ID_HEADER),
        retry_after=parse_retry_after(reply.headers.get("Retry-After")),
    )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _interpret_health(reply: Reply) -> Health:
    if reply.status == _UNAVAILABLE and "checks" in _json_object(reply.body):
        return interpret(Health, replace(reply, status=_OK))
    return interpret(Health, reply)


def _interpret_readiness(reply: Reply) -> Health:
    health = _interpret_health(reply)
    if reply.status == _OK:
        return health
    missing = "; ".join(
        f"{part}: {fault}" for part, fault in health.checks.items() if fault != "ok"
    )
    raise UnavailableError(
        f"the server is not ready ({missing or health.status})",
        status=reply.status,
        error_type="not_ready",
    )
