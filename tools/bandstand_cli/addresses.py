"""Addresses of servers as options of the command line."""

from __future__ import annotations

import typer

from bandstand.models.address import shown_address


def http_url(url: str | None) -> str | None:
    """Return an http(s) address.

    Raises:
        typer.BadParameter: it is not one.
    """
    if url is not None and not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{shown_address(url)!r} does not look like http://127.0.0.1:3000")
    return url


def server_address(address: str) -> str:
    """Return the address of Bandstand (http, https) or of Triton (grpc, grpcs).

    Raises:
        typer.BadParameter: it is neither.
    """
    schemes = ("http://", "https://", "grpc://", "grpcs://")
    if not address.startswith(schemes):
        raise typer.BadParameter(
            f"{shown_address(address)!r} looks like neither http://127.0.0.1:3000 nor grpc://127.0.0.1:8001"
        )
    return address
