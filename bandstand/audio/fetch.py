"""Downloads a URL, without giving access to the server's private network.

The host's name is resolved once, every address is checked, and the connection goes to a checked
address, so a name whose address changes between two resolutions has no effect. Proxies of the
environment are not used, because they would resolve names again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import httpcore
import httpx

from bandstand.audio.addresses import Address, may_be_fetched_from
from bandstand.errors import (
    AddressRefusedError,
    DeadlineExceededError,
    FetchFailedError,
    MalformedRequestError,
    PayloadTooLargeError,
)
from bandstand.settings import Settings

_OK = 200
_LAST_PORT = 65_535
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# No compression, so that the counted bytes are the bytes in memory.
_HEADERS: list[tuple[bytes | str, bytes | str]] = [
    ("User-Agent", "bandstand"),
    ("Accept", "audio/*, */*;q=0.5"),
    ("Accept-Encoding", "identity"),
]
_HTTPCORE_ERRORS = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """The limits of downloads.

    Attributes:
        max_bytes: largest content.
        timeout_seconds: for all together: name resolution, connections, redirects, content.
        max_redirects: most redirects.
        allowed_networks: networks that are not public and are allowed.
        ca_file: certificate authorities that replace the default ones.
        on_size: is called with the bytes so far, and may raise to end the download.
    """

    max_bytes: int
    timeout_seconds: float
    max_redirects: int
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    ca_file: Path | None = None
    on_size: Callable[[int], None] | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> FetchLimits:
        """Return the limits of the settings."""
        return cls(
            max_bytes=settings.max_upload_bytes,
            timeout_seconds=settings.fetch_timeout_seconds,
            max_redirects=settings.fetch_max_redirects,
            allowed_networks=settings.fetch_allowed_networks,
            ca_file=settings.fetch_ca_file,
        )


async def fetch(url: str, limits: FetchLimits) -> bytes:
    """Return the content of an https URL.

    Raises:
        MalformedRequestError: it is not an https URL, or has a user name or password.
        AddressRefusedError: its host, or the host of a redirect, has an address that is not public.
        PayloadTooLargeError: the content is larger than the limit; reading stops there.
        FetchFailedError: no such host, no connection, an invalid certificate, a status other than
            200, compressed content, too many redirects, or a redirect to another scheme.
        DeadlineExceededError: it was not finished within the timeout.
    """
    target = _parse(url)
    try:
        async with asyncio.timeout(limits.timeout_seconds):
            return await _follow(target, limits)
    except TimeoutError:
        raise DeadlineExceededError(
            f"audio_url could not be read within {limits.timeout_seconds:g} s"
        ) from None


def _parse(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise MalformedRequestError("audio_url is not a valid URL") from error
    if parsed.scheme != "https" or not parsed.host:
        raise MalformedRequestError("audio_url must be an https:// URL")
    if parsed.port is not None and not 0 < parsed.port <= _LAST_PORT:
        raise MalformedRequestError(f"audio_url names a port that does not exist: {parsed.port}")
    if parsed.userinfo:
        raise MalformedRequestError("audio_url must not have a user name or password in it")
    return parsed


async def _follow(url: httpx.URL, limits: FetchLimits) -> bytes:
    """Return the content of a URL, and follow its redirects."""
    async with httpcore.AsyncConnectionPool(
        ssl_context=_tls_context(limits.ca_file), network_backend=_GuardedNetwork(limits)
    ) as pool:
        for _ in range(limits.max_redirects + 1):
            answer = await _get(pool, url, limits)
            if isinstance(answer, bytes):
                return answer
            url = answer
    raise FetchFailedError(f"audio_url redirects more than {limits.max_redirects} times")


async def _get(
    pool: httpcore.AsyncConnectionPool, url: httpx.URL, limits: FetchLimits
) -> bytes | httpx.URL:
    """Send one request; return the content, or the target of a redirect."""
    request = httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
    headers = [("Host", url.netloc), *_HEADERS]
    try:
        async with pool.stream("GET", request, headers=headers) as response:
            if response.status in _REDIRECTS:
                return _redirect_target(url, response)
            if response.status != _OK:
                raise FetchFailedError(f"{url.host} answered with status {response.status}")
            return await _read(response, limits)
    except _HTTPCORE_ERRORS as error:
        raise FetchFailedError(_reason(error, url.host)) from error


def _redirect_target(url: httpx.URL, response: httpcore.Response) -> httpx.URL:
    location = _header(response, b"location")
    try:
        return _parse(str(url.join(location)) if location else "")
    except (httpx.InvalidURL, MalformedRequestError, ValueError) as error:
        raise FetchFailedError(
            f"{url.host} redirects to something other than an https:// URL"
        ) from error


async def _read(response: httpcore.Response, limits: FetchLimits) -> bytes:
    """Return the body; stop as soon as it is too large."""
    too_large = PayloadTooLargeError(
        f"the content of audio_url is larger than the {limits.max_bytes} bytes that are accepted"
    )
    if _header(response, b"content-encoding").strip().lower() not in ("", "identity"):
        raise FetchFailedError(
            "the content of audio_url is compressed, although the request excluded that"
        )
    announced = _header(response, b"content-length")
    if announced.isdecimal() and int(announced) > limits.max_bytes:
        raise too_large
    content = bytearray()
    async for chunk in response.aiter_stream():
        content += chunk
        if len(content) > limits.max_bytes:
            raise too_large
        if limits.on_size is not None:
            limits.on_size(len(content))
    return bytes(content)


def _header(response: httpcore.Response, name: bytes) -> str:
    """Return a header's value, or an empty text."""
    for key, value in response.headers:
        if key.lower() == name:
            return value.decode("latin-1")
    return ""


def _reason(error: Exception, host: str) -> str:
    """Return a message that reveals nothing about this server's network."""
    cause = error.__context__  # the pool drops the cause
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the TLS certificate of {host} could not be verified"
    if isinstance(cause, ssl.SSLError):
        return f"the TLS connection to {host} failed"
    if isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout):
        return f"no connection to {host}"
    return f"the connection to {host} broke off"


@lru_cache(maxsize=4)
def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    return ssl.create_default_context(cafile=ca_file)


class _GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections to allowed addresses only."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the base class has it
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of the host's addresses that accepts.

        Raises:
            AddressRefusedError: one of its addresses is not allowed.
            FetchFailedError: the host has no address.
        """
        addresses = await _resolve(host, port)
        allowed = self._limits.allowed_networks
        if not all(may_be_fetched_from(address, allowed) for address in addresses):
            raise AddressRefusedError(f"{host} is not at a public address")
        # An address that never answers leaves time for the others.
        seconds_each = self._limits.timeout_seconds / len(addresses)
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(str(address), port, seconds_each)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(str(addresses[-1]), port)


async def _resolve(host: str, port: int) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchFailedError(f"no host is called {host}") from error
    return [ip_address(address[0]) for *_, address in found]
