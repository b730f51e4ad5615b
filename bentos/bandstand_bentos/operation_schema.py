"""The OpenAPI schema of an operation's request: its options, and the three forms of audio."""

from __future__ import annotations

from typing import Any

from bandstand.operations.encoding import options_schema
from bandstand_client.contract.declaration import Operation

_BINARY = {"type": "string", "format": "binary"}
_ADDRESS = {"type": "string", "format": "uri"}


def operation_schema(operation: Operation[..., Any], *, audio_url: bool = True) -> dict[str, Any]:
    """Return the schema of a request, which FastAPI cannot derive: the route reads it itself.

    The options are in the query, or beside the audio in a multipart or JSON body.

    Args:
        operation: the operation to describe.
        audio_url: whether the audio may be a URL.
    """
    options = options_schema(operation)

    def body(**audio: dict[str, Any]) -> dict[str, Any]:
        schema = {
            "type": "object",
            "required": list(audio),
            "properties": audio | options,
            "additionalProperties": False,
        }
        return {"schema": schema}

    forms = {
        "multipart/form-data": body(file=_BINARY),
        "application/octet-stream": {"schema": _BINARY},
    }
    if audio_url:
        forms["application/json"] = body(audio_url=_ADDRESS)
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": schema["description"],
                "schema": {key: value for key, value in schema.items() if key != "description"},
            }
            for name, schema in options.items()
        ],
        "requestBody": {
            "required": True,
            "description": "Audio: multipart field, raw body" + (", or URL." if audio_url else "."),
            "content": forms,
        },
    }
