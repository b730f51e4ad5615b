"""Bandstand's typed errors as Triton's messages: `[<status> <error_type>] <message>`.

KServe v2 has one message and a code. The code is Triton's closest one; the message has the rest, so
that a client can raise the same error as over HTTP.
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
    """Return the message that encodes an error."""
    return f"[{error.status} {error.error_type}] {error.message}"


def from_message(message: str) -> BandstandError | None:
    """Return the error that a message contains, at any position; None: it contains none."""
    found = _MESSAGE.search(message)
    if found is None:
        return None
    return BandstandError.from_fields({"error": found[3], "error_type": found[2]})
