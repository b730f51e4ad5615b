"""The three ways audio arrives at a route, brought to one: bytes and options."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from bandstand.audio.fetch import FetchLimits, fetch
from bandstand.errors import MalformedRequestError
from bandstand.pipelines.options import Options
from bandstand.telemetry import stage

_MAX_FIELDS = 8
_T = TypeVar("_T", bound=BaseModel)
Asked = TypeVar("Asked", bound=Options)


class _AudioAddress(BaseModel):
    audio_url: str = Field(min_length=1, max_length=4096)


@dataclass(frozen=True, slots=True)
class Intake(Generic[Asked]):
    """One request's audio, still encoded, and its options."""

    audio: bytes
    options: Asked


def _validated(kind: type[_T], values: dict[str, Any]) -> _T:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise MalformedRequestError(f"{where}: {first['msg']}") from None


async def _read_multipart(request: Request) -> tuple[bytes, dict[str, Any]]:
    try:
        form = await request.form(max_files=1, max_fields=_MAX_FIELDS)
    except (MultiPartException, HTTPException) as error:
        raise MalformedRequestError(f"the multipart body cannot be read: {error}") from error
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise MalformedRequestError("the multipart body has no file field called 'file'")
        return await file.read(), {k: v for k, v in form.items() if isinstance(v, str)}
    finally:
        await form.close()


async def _read_address(request: Request, limits: FetchLimits) -> tuple[bytes, dict[str, Any]]:
    try:
        content = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise MalformedRequestError(f"the JSON body cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise MalformedRequestError('the JSON body must look like {"audio_url": "https://…"}')
    address = _validated(_AudioAddress, content)
    with stage("fetch"):
        return await fetch(address.audio_url, limits), content


async def read_intake(request: Request, limits: FetchLimits, kind: type[Asked]) -> Intake[Asked]:
    """Read a request's audio: multipart, JSON with an address, or else the raw body.

    Curl's `--data-binary` calls any body a web form, so only multipart counts as one. Options come
    in the query, in form fields or in the JSON; what is none of `kind` is ignored.

    Raises:
        MalformedRequestError: no audio in it, or an option that cannot be.
        BandstandError: the refusals of `fetch`; `PayloadTooLargeError`.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "multipart/form-data":
        audio, fields = await _read_multipart(request)
    elif media == "application/json":
        audio, fields = await _read_address(request, limits)
    else:
        audio, fields = await request.body(), {}
    given = {**fields, **request.query_params}
    asked = {name: value for name, value in given.items() if name in kind.model_fields}
    return Intake(audio, _validated(kind, asked))
