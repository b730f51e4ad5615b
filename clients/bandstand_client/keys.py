"""The authorization header."""

from __future__ import annotations


def authorization(api_key: str) -> str:
    """Return the value of an `authorization` header.

    Raises:
        ValueError: a header cannot contain this key.
    """
    # Checked here, since other libraries would quote the key in their error messages.
    if not (api_key.isascii() and api_key.isprintable() and api_key.strip() == api_key != ""):
        raise ValueError("api_key is empty or has characters that a header cannot contain")
    return f"Bearer {api_key}"
