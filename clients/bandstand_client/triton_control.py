"""The key for what changes a Triton server: its models, shared memory, traces and log settings.

The server's program gets it as an argument, which every user of its host can read in the list of
processes. So it is not the administrator's key itself, but derived from it.
"""

from __future__ import annotations

import hashlib
import hmac

HEADER = "bandstand-control"
"""The header of a request over HTTP."""
GRPC_HEADER = f"triton-grpc-protocol-{HEADER}"
"""The metadata of a call over gRPC; the prefix is Triton's."""

REFUSAL = "is restricted, expecting header"
"""Part of Triton's message if the key is missing or wrong; its gRPC code is UNAVAILABLE."""

_PURPOSE = b"bandstand: control of a Triton server"


def control_key(admin_key: str) -> str:
    """Return the key for Triton that belongs to an administrator's key."""
    return hmac.new(admin_key.encode(), _PURPOSE, hashlib.sha256).hexdigest()
