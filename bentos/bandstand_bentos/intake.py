"""Intake: reads the audio and the options of a request, in each of the three accepted forms."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from bandstand.audio.fetch import FetchLimits, fetch
from bandstand.errors import AudioUrlOffError, MalformedRequestError, PayloadTooLargeError
from bandstand.operations.encoding import read_options
from bandstand.settings import Settings
from bandstand.telemetry import stage
from bandstand_bentos.body_bytes import STEP_BYTES, BodyBytes
from bandstand_bentos.edge import BODY_MEMORY
from bandstand_client.contract.declaration import Operation

_MAX_FIELDS = 8
_MAX_FIELD_BYTES = 8 * 1024
_SLOW_PIECE_SECONDS = 1e-3
_ADDRESS = "audio_url"


class _AudioAddress(BaseModel):
    audio_url: str = Field(min_length=1, max_length=4096)


@dataclass(frozen=True, slots=True)
class Intake:
    """The encoded audio of one request, and the options of its operation."""

    audio: bytes
    options: Any


async def _few_delimiters(
    stream: AsyncGenerator[bytes, None], content_type: str
) -> AsyncGenerator[bytes, None]:
    """Pass on a multipart body; refuse one with more boundaries than parts that may be.

    The parser takes microseconds for each half boundary: 64 MB of them stop the gateway for ten
    seconds. They are counted only in pieces that took it long, because counting takes time, too.

    Raises:
        MultiPartException: there are too many.
    """
    _, parameters = parse_options_header(content_type)
    delimiter = b"--" + parameters.get(b"boundary", b"")
    found = 0
    async for piece in stream:
        started = perf_counter()
        yield piece
        if perf_counter() - started > _SLOW_PIECE_SECONDS:
            found += piece.count(delimiter)
            if found > _MAX_FIELDS + 2:  # with the file, and at the end
                raise MultiPartException("its boundary is in it more often than it has parts")


async def _read_multipart(request: Request) -> tuple[bytes, dict[str, Any]]:
    stream = _few_delimiters(request.stream(), request.headers["content-type"])
    parser = MultiPartParser(
        request.headers,
        stream,
        max_files=1,
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise MalformedRequestError(
            f"the multipart body cannot be read: {error.message}"
        ) from error
    except UnicodeError as error:  # any codec can be named
        raise MalformedRequestError(f"the multipart body cannot be read: {error}") from error
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise MalformedRequestError("the multipart body has no file field called 'file'")
        return await file.read(), {k: v for k, v in form.items() if isinstance(v, str)}
    finally:
        await form.close()


async def read_json_body(request: Request, max_bytes: int) -> bytes:
    """Return the body of a request that can only have JSON.

    Raises:
        PayloadTooLargeError: it is larger than `max_bytes`; reading stops there.
    """
    too_large = PayloadTooLargeError(f"a JSON body has at most {max_bytes} bytes")
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and int(stated) > max_bytes:
        raise too_large
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > max_bytes:
            raise too_large
    return bytes(content)


async def _read_address(request: Request, max_bytes: int) -> tuple[str, dict[str, Any]]:
    body = await read_json_body(request, max_bytes)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedRequestError(f"the JSON body cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise MalformedRequestError('the JSON body must look like {"audio_url": "https://…"}')
    try:
        address = _AudioAddress.model_validate({_ADDRESS: content.pop(_ADDRESS, None)})
    except ValidationError as error:
        raise MalformedRequestError(f"{_ADDRESS}: {error.errors()[0]['msg']}") from None
    return address.audio_url, content


async def _fetch(request: Request, address: str, limits: FetchLimits) -> bytes:
    """Download the audio; what has come takes its place in the memory for bodies.

    Raises:
        OverloadedError: other requests take all of it.
        BandstandError: the refusals of `fetch`.
    """
    memory: BodyBytes = request.scope[BODY_MEMORY]
    memory.shrink_to(0)  # the JSON body: what holds a part must not wait for more
    await memory.wait_for(STEP_BYTES)
    with stage("fetch"):
        return await fetch(address, replace(limits, on_size=memory.grow_to))


async def read_intake(
    request: Request, limits: FetchLimits, operation: Operation[..., Any], settings: Settings
) -> Intake:
    """Read a request's audio: multipart, JSON with an address, or the raw body.

    `curl --data-binary` labels every body as a URL-encoded form, so such a body is read as raw
    audio. Options are read from the query, the form fields or the JSON.

    Raises:
        AudioUrlOffError: it is JSON, and this server fetches nothing.
        MalformedRequestError: it has no audio, an option that the operation does not have, or an
            invalid value of an option.
        BandstandError: the refusals of `fetch`; `PayloadTooLargeError`.
    """
    query = dict(request.query_params)
    read_options(operation, query)  # before a long body is read
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/json":
        if settings.audio_url == "off":
            raise AudioUrlOffError("this server fetches no audio_url: send the audio itself")
        address, fields = await _read_address(request, settings.max_json_bytes)
        options = read_options(operation, {**fields, **query})  # before anything is fetched
        return Intake(await _fetch(request, address, limits), options)
    if media == "multipart/form-data":
        audio, fields = await _read_multipart(request)
    else:
        audio, fields = await request.body(), {}
    return Intake(audio, read_options(operation, {**fields, **query}))
