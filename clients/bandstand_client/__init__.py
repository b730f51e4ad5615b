"""Clients of a Bandstand server, over HTTP and gRPC, sync and async.

from bandstand_client import Bandstand

with Bandstand("http://127.0.0.1:3000") as band:
    print(band.classify("song.mp3").primary_genre)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bandstand_client.errors import (
        AuthenticationError,
        BandstandClientError,
        DeadlineError,
        InvalidAudioError,
        NotFoundError,
        OverloadedError,
        RefusedError,
        ServerError,
        TooLargeError,
        UnavailableError,
    )
    from bandstand_client.grpc import AsyncBandstandGrpc, BandstandGrpc
    from bandstand_client.grpc_transport import Tls
    from bandstand_client.http import AsyncBandstand, Bandstand
    from bandstand_client.policy import Timeouts

__version__ = "0.1.0"

__all__ = [
    "AsyncBandstand",
    "AsyncBandstandGrpc",
    "AuthenticationError",
    "Bandstand",
    "BandstandClientError",
    "BandstandGrpc",
    "DeadlineError",
    "InvalidAudioError",
    "NotFoundError",
    "OverloadedError",
    "RefusedError",
    "ServerError",
    "Timeouts",
    "Tls",
    "TooLargeError",
    "UnavailableError",
]

_MODULES = {
    "Bandstand": "http",
    "AsyncBandstand": "http",
    "BandstandGrpc": "grpc",
    "AsyncBandstandGrpc": "grpc",
    "Tls": "grpc_transport",
    "Timeouts": "policy",
}


def __getattr__(name: str) -> Any:
    """Import a name on first use: the contract needs neither httpx nor numpy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"bandstand_client.{_MODULES.get(name, 'errors')}")
    return getattr(module, name)
