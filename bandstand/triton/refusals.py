"""Bandstand's typed errors as Triton's messages: `[<status> <error_type>] <message>`.

KServe v2 carries one message and a code. The code is the closest that Triton has; the message
says the rest, so that a client gets the same error as over HTTP.
"""

from __future__ import annotations

import re

from bandstand.errors import BandstandError

_MESSAGE = re.compile(r"\[(\d{3}) ([a-z_]+)\] (.*)", re.DOTALL)

# Names of `TritonError`'s constants, by HTTP status.
_CODES = {
    404: "NOT_FOUND",
    409: "NOT_FOUND",  # of the models: not installed
    415: "UNSUPPORTED",
    429: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}
_FIRST_SERVER_STATUS = 500


def triton_code(error: BandstandError) -> str:
    """Return the name of the Triton code closest to an error."""
    fallback = "INTERNAL" if error.status >= _FIRST_SERVER_STATUS else "INVALID_ARG"
    return _CODES.get(error.status, fallback)


def to_message(error: BandstandError) -> str:
    """Return the message that carries an error."""
    return f"[{error.status} {error.error_type}] {error.message}"


def from_message(message: str) -> BandstandError | None:
    """Return the error that a message carries, wherever in it; None: it carries none."""
    found = _MESSAGE.search(message)
    if found is None:
        return None
    return BandstandError.from_fields({"error": found[3], "error_type": found[2]})
