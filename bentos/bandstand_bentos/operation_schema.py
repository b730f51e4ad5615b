"""The OpenAPI schema of an operation's request: its options, and the three forms of audio."""

from __future__ import annotations

from typing import Any

from bandstand.operations.encoding import options_schema
from bandstand_client.contract.declaration import Operation

_BINARY = {"type": "string", "format": "binary"}
_ADDRESS = {"type": "string", "format": "uri"}


def operation_schema(operation: Operation[..., Any]) -> dict[str, Any]:
    """Return the schema of a request, which FastAPI cannot derive: the route reads it itself.

    The options are in the query, or beside the audio in a multipart or JSON body.
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
            "description": "Audio in one of three forms: multipart field, raw body, or URL.",
            "content": {
                "multipart/form-data": body(file=_BINARY),
                "application/octet-stream": {"schema": _BINARY},
                "application/json": body(audio_url=_ADDRESS),
            },
        },
    }
