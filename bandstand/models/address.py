"""Addresses as messages, reports and logs show them."""

from __future__ import annotations

import re


def shown_address(uri: str) -> str:
    """Return an address without user name and password, query and fragment.

    These can be credentials: `https://key:secret@host/file`, or the signature of
    `https://bucket.s3.amazonaws.com/file?X-Amz-Signature=…`, with which everybody can fetch it.
    The rest is as it was.
    """
    scheme, slashes, rest = re.split("[?#]", uri, maxsplit=1)[0].partition("//")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{authority.rpartition('@')[2]}{slash}{path}"
