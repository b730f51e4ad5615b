"""The key of a server."""

from __future__ import annotations

import os

VARIABLE = "BANDSTAND_API_KEY"


def api_key() -> str | None:
    """Return the key from the environment; an option would show it in the process list."""
    return os.environ.get(VARIABLE) or None
