"""What answers look like on the wire, and the refusals that routes document."""

from __future__ import annotations

from typing import Any

from fastapi.responses import Response
from pydantic import BaseModel

from bandstand.pipelines.answers import ErrorAnswer

REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "The request cannot be read."},
    403: {"model": ErrorAnswer, "description": "The URL points to an address that is refused."},
    404: {"model": ErrorAnswer, "description": "No such model."},
    409: {"model": ErrorAnswer, "description": "The model is not installed."},
    413: {"model": ErrorAnswer, "description": "Too many bytes, or too many seconds."},
    415: {"model": ErrorAnswer, "description": "Not audio in a format that can be decoded."},
    422: {"model": ErrorAnswer, "description": "Audio, but unusable: empty, too short, NaN, …"},
    429: {"model": ErrorAnswer, "description": "Overloaded; see Retry-After."},
    500: {"model": ErrorAnswer, "description": "A fault of ours."},
    503: {"model": ErrorAnswer, "description": "A part is starting or gone; see Retry-After."},
    504: {"model": ErrorAnswer, "description": "Not finished within the deadline."},
}


def json_response(answer: BaseModel, status: int = 200) -> Response:
    """Serialise an answer once; FastAPI's own way validates and copies first."""
    return Response(answer.model_dump_json(), status, media_type="application/json")
