"""Modules of Triton's Python backend; they can be imported only inside it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bandstand.errors import BandstandError
from bandstand.triton.refusals import to_message, triton_code

pb_utils: Any = import_module("triton_python_backend_utils")


def error_response(error: BandstandError) -> Any:
    """Return the response that refuses one request."""
    code = getattr(pb_utils.TritonError, triton_code(error))
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(to_message(error), code))
