"""How a client says who it is."""

from __future__ import annotations


def authorization(api_key: str) -> str:
    """Return the value of an `authorization` header.

    Raises:
        ValueError: no header can carry this key.
    """
    # Checked here, since the libraries below would quote the key in their own complaints.
    if not (api_key.isascii() and api_key.isprintable() and api_key.strip() == api_key != ""):
        raise ValueError("api_key is empty or has characters that a header cannot carry")
    return f"Bearer {api_key}"
