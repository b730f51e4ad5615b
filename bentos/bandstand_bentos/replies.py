"""The JSON response of an answer, and the refusals that routes document."""

from __future__ import annotations

from typing import Any

from fastapi.responses import Response

from bandstand.operations.encoding import to_json
from bandstand_client.contract.shared import Refusal

REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "The request cannot be read."},
    403: {"model": Refusal, "description": "The URL's address is refused, or URLs are off."},
    404: {"model": Refusal, "description": "No such model."},
    408: {"model": Refusal, "description": "The request came too slowly."},
    409: {"model": Refusal, "description": "The model is not installed."},
    413: {"model": Refusal, "description": "Too many bytes, or too many seconds."},
    414: {"model": Refusal, "description": "The URL is too long."},
    415: {"model": Refusal, "description": "The content is not audio in a supported format."},
    422: {"model": Refusal, "description": "The audio is unusable: empty, too short, NaN, …"},
    429: {
        "model": Refusal,
        "description": "The queue is full, or one share of it; see Retry-After.",
    },
    431: {"model": Refusal, "description": "Too many bytes of headers."},
    500: {"model": Refusal, "description": "An internal error."},
    503: {"model": Refusal, "description": "A part is starting or not available; see Retry-After."},
    504: {"model": Refusal, "description": "Not finished within the deadline."},
}


def json_response(answer: object, status: int = 200) -> Response:
    """Serialise an answer once; FastAPI itself would validate and copy it first."""
    return Response(to_json(answer), status, media_type="application/json")
