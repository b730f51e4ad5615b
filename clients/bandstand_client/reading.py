"""Conversion of parsed JSON to the dataclasses of `bandstand_client.contract`.

Unknown fields are ignored, so that a newer server can add some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read(kind: type[T], content: object) -> T:
    """Convert parsed JSON to a value of `kind`.

    Args:
        kind: a dataclass.
        content: what `json.loads` returned.

    Raises:
        ValueError: the content has another shape; the message names the field.
    """
    return cast(T, _read(kind, content, "answer"))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, content: object, where: str) -> object:
    if get_origin(kind) in (Union, UnionType):  # always `X | None`
        if content is None:
            return None
        kind = next(choice for choice in get_args(kind) if choice is not NoneType)
    if isinstance(content, Mapping) and (is_dataclass(kind) or get_origin(kind) is dict):
        return _read_mapping(kind, content, where)
    if isinstance(content, list) and get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return tuple(_read(item, entry, f"{where}[{i}]") for i, entry in enumerate(content))
    if kind is float and type(content) is int:
        return float(content)
    if get_origin(kind) is Literal and isinstance(content, str):
        return content  # a newer server can have more values
    if kind is Any or type(content) is kind:
        return content
    raise ValueError(f"{where}: {type(content).__name__} instead of {kind}")


def _read_mapping(kind: Any, content: Mapping[str, object], where: str) -> object:
    if not is_dataclass(kind):
        item = get_args(kind)[1]
        return {key: _read(item, entry, f"{where}.{key}") for key, entry in content.items()}
    values = {}
    for entry in fields(kind):
        if entry.name in content:
            inner = _hints(cast(type, kind))[entry.name]
            values[entry.name] = _read(inner, content[entry.name], f"{where}.{entry.name}")
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise ValueError(f"{where}.{entry.name} is missing")
    return cast(type, kind)(**values)
