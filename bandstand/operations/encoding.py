"""Reads options and writes answers as JSON, with the declared dataclasses."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from bandstand.errors import MalformedRequestError
from bandstand_client.contract.declaration import Operation

_UNKNOWN = frozenset({"unexpected_keyword_argument", "extra_forbidden"})


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast("Any", kind))


def read_options(operation: Operation[..., Any], given: Mapping[str, object]) -> Any:
    """Return an operation's options; numbers may be text, as in a query.

    Raises:
        MalformedRequestError: the operation does not have an option, or a value is invalid; the
            message names the option.
    """
    try:
        return _adapter(operation.options).validate_python(dict(given))
    except ValidationError as error:
        raise MalformedRequestError(_first(operation, error)) from None


def read_json_options(operation: Operation[..., Any], text: str) -> Any:
    """Return an operation's options from a JSON object; see `read_options`."""
    try:
        return _adapter(operation.options).validate_json(text)
    except ValidationError as error:
        raise MalformedRequestError(_first(operation, error)) from None


def options_schema(operation: Operation[..., Any]) -> dict[str, Any]:
    """Return the JSON Schema of each option, by name."""
    schema = _adapter(operation.options).json_schema()
    properties: dict[str, Any] = schema.get("properties", {})
    return properties


def to_json(answer: object) -> bytes:
    """Return an answer as JSON."""
    kind: Any = type(answer)
    return _adapter(kind).dump_json(answer)


def _first(operation: Operation[..., Any], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the options"
    if first["type"] in _UNKNOWN:
        known = ", ".join(options_schema(operation)) or "none"
        return f"{where}: there is no such option; {operation.path} has: {known}"
    return f"{where}: {first['msg']}"
