"""Connecting to the server under test, by the scheme of its address."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

from bandstand_loadtest.targets.base import Target

GRPC_SCHEMES = ("grpc", "grpcs")


def is_local(address: str) -> bool:
    """Whether an address is this machine's own."""
    return urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")


def open_target(
    address: str, model: str, *, api_key: str | None = None
) -> AbstractAsyncContextManager[Target]:
    """Connect to the server at `http(s)://…` or `grpc(s)://…`, to ask `model`.

    Raises:
        BandstandClientError: it cannot be reached, or refuses.
        UnusableRequestError: gRPC, and `tritonclient` is not installed.
        ValueError: no such address.
    """
    if urlsplit(address).scheme in GRPC_SCHEMES:
        from bandstand_loadtest.targets.grpc import open_grpc_target

        return open_grpc_target(address, model, api_key)
    from bandstand_loadtest.targets.http import open_http_target

    return open_http_target(address, model, api_key)
