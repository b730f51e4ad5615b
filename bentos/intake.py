"""The three ways audio arrives at a route, brought to one: bytes and options."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from bandstand.audio.fetch import FetchLimits, fetch
from bandstand.errors import MalformedRequestError
from bandstand.pipelines.genre import DEFAULT_TOP_K
from bandstand.telemetry import stage

_MAX_FIELDS = 8
_T = TypeVar("_T", bound=BaseModel)


class Options(BaseModel):
    """What a caller may ask for beside the audio; in the query, in form fields or in the JSON."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    model_name: str | None = Field(None, max_length=64)
    top_k: int = Field(DEFAULT_TOP_K, ge=1, le=1000)


class _AudioAddress(BaseModel):
    audio_url: str = Field(min_length=1, max_length=4096)


@dataclass(frozen=True, slots=True)
class Intake:
    """One request's audio, still encoded, and its options."""

    audio: bytes
    options: Options


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


async def read_intake(request: Request, limits: FetchLimits) -> Intake:
    """Read a request's audio: multipart, JSON with an address, or else the raw body.

    Curl's `--data-binary` calls any body a web form, so only multipart counts as one.

    Raises:
        MalformedRequestError: no audio in it, or an option that cannot be.
        BandstandError: the refusals of `fetch`; `PayloadTooLargeError`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        audio, fields = await _read_multipart(request)
    elif kind == "application/json":
        audio, fields = await _read_address(request, limits)
    else:
        audio, fields = await request.body(), {}
    asked = {**fields, **request.query_params}
    return Intake(audio, _validated(Options, asked))
