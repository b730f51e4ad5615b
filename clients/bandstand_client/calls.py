"""The HTTP surface as values: what each call sends, and how its answer is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar
from urllib.parse import quote

from bandstand_client.errors import BandstandClientError, ServerError, UnavailableError, error_class
from bandstand_client.policy import parse_retry_after
from bandstand_client.results import (
    FeaturesResult,
    GenreResult,
    Health,
    InstrumentsResult,
    ModelList,
    ModelMetrics,
    ModelSummary,
    read,
)

T = TypeVar("T")

Audio = bytes | Path | str | BinaryIO
"""Encoded audio: its bytes, the path of a file, or an open binary file."""

REQUEST_ID_HEADER = "X-Request-ID"
_OK, _UNAVAILABLE = 200, 503
_QUOTED_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and the way to read its answer."""

    method: str
    path: str
    interpret: Callable[[Reply], T]
    params: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = field(default=None, repr=False)


def classify(content: bytes | str, model: str | None, top_k: int | None) -> Call[GenreResult]:
    """Name the genre of `content`: encoded audio, or the URL of some."""
    params = {"model_name": model, "top_k": None if top_k is None else str(top_k)}
    return _audio_call("/predict", GenreResult, content, params)


def instruments(
    content: bytes | str, model: str | None, threshold: float | None
) -> Call[InstrumentsResult]:
    """Name the instruments of `content`: encoded audio, or the URL of some."""
    params = {"model_name": model, "threshold": None if threshold is None else str(threshold)}
    return _audio_call("/detect/instruments", InstrumentsResult, content, params)


def features(content: bytes | str) -> Call[FeaturesResult]:
    """Compute the features of `content`: encoded audio, or the URL of some."""
    return _audio_call("/analyze/features", FeaturesResult, content, {})


def models() -> Call[ModelList]:
    """List the models."""
    return Call("GET", "/models", partial(interpret, ModelList))


def model_metrics(name: str) -> Call[ModelMetrics]:
    """Read one model's quality and export report."""
    return Call("GET", f"/models/{quote(name, safe='')}/metrics", partial(interpret, ModelMetrics))


def load_model(name: str, version: int | None) -> Call[ModelSummary]:
    """Have a version of a model served; None: the newest."""
    content = json.dumps({} if version is None else {"version": version}).encode()
    return replace(_model_change(name, "load"), content=content)


def unload_model(name: str) -> Call[ModelSummary]:
    """Have a model served no more."""
    return _model_change(name, "unload")


def _model_change(name: str, change: str) -> Call[ModelSummary]:
    path = f"/models/{quote(name, safe='')}/{change}"
    json_body = {"Content-Type": "application/json"}
    return Call("POST", path, partial(interpret, ModelSummary), headers=json_body)


def health() -> Call[Health]:
    """Ask how the server is; one that is not ready answers too (503)."""
    return Call("GET", "/health", _interpret_health)


def readiness() -> Call[Health]:
    """Ask whether the server is ready; one that is not counts as unavailable."""
    return Call("GET", "/readyz", _interpret_readiness)


def content_of(audio: Audio | None, url: str | None) -> bytes | str:
    """Return the encoded bytes that `audio` stands for, or `url`.

    Raises:
        OSError: a file that cannot be read.
        TypeError: both or neither are given.
        ValueError: a URL as `audio`.
    """
    if audio is None and url is not None:
        return url
    if audio is None or url is not None:
        raise TypeError("give either audio or url=…")
    if isinstance(audio, str) and audio.startswith(("http://", "https://")):
        raise ValueError("a URL goes in the argument `url`, for the server to fetch")
    return encoded(audio)


def encoded(audio: Audio) -> bytes:
    """Return the encoded bytes that `audio` stands for.

    Raises:
        OSError: a file that cannot be read.
    """
    if isinstance(audio, bytes):
        return audio
    if isinstance(audio, str | Path):
        return Path(audio).read_bytes()
    return audio.read()


def interpret(kind: type[T], reply: Reply) -> T:
    """Read an answer as `kind`.

    Raises:
        BandstandClientError: it is a refusal, a failure, or not what `kind` looks like.
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
    """Build the error that an answer reports, be it Bandstand's own or a proxy's page."""
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


def _audio_call(
    path: str, kind: type[T], content: bytes | str, params: Mapping[str, str | None]
) -> Call[T]:
    is_url = isinstance(content, str)
    return Call(
        "POST",
        path,
        partial(interpret, kind),
        params={name: value for name, value in params.items() if value is not None},
        headers={"Content-Type": "application/json" if is_url else "application/octet-stream"},
        content=json.dumps({"audio_url": content}).encode()
        if isinstance(content, str)
        else content,
    )
