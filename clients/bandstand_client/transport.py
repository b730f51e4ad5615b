"""What the sync and the async client set up alike: addresses, headers, timeouts, errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx

from bandstand_client.calls import REQUEST_ID_HEADER, Call
from bandstand_client.errors import DeadlineError, ServerError, UnavailableError
from bandstand_client.keys import authorization
from bandstand_client.policy import CONNECTION_CUT, Timeouts


def client_options(base_url: str, api_key: str | None) -> dict[str, Any]:
    """Return the options of an httpx client.

    Raises:
        ValueError: not an http(s) address, or a key that no header can carry.
    """
    url = httpx.URL(base_url)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"base_url must look like http://host:3000, not {base_url!r}")
    headers = {"Accept": "application/json"}
    if api_key is not None:
        headers["Authorization"] = authorization(api_key)
    # The number of calls in flight is the caller's choice: the pool itself never makes one wait.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
    return {"base_url": url, "headers": headers, "limits": limits, "follow_redirects": False}


def request_options(
    call: Call[Any], request_id: str, timeouts: Timeouts, left: float
) -> dict[str, Any]:
    """Return the options of one httpx request that has `left` seconds to live."""
    read = min(timeouts.read, left)
    return {
        "method": call.method,
        "url": call.path,
        "params": call.params,
        "headers": {**call.headers, REQUEST_ID_HEADER: request_id},
        "content": call.content,
        "timeout": httpx.Timeout(read, connect=min(timeouts.connect, left)),
    }


def new_request_id() -> str:
    """Return the name that one call, with all its tries, has in the server's logs."""
    return uuid4().hex


@contextmanager
def transport_errors(request_id: str, *, answer_began: bool) -> Iterator[None]:
    """Turn httpx's errors into the clients' own.

    Args:
        request_id: of the request on its way.
        answer_began: a status has arrived, so what breaks now was being answered.
    """
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise UnavailableError(
            "the server cannot be reached", error_type="connect_timeout", request_id=request_id
        ) from error
    except httpx.TimeoutException as error:
        raise DeadlineError(
            "the server did not answer in time", error_type="read_timeout", request_id=request_id
        ) from error
    except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
        raise UnavailableError(
            f"the connection broke off in mid-answer: {error}"
            if answer_began
            else f"no connection to the server: {error}",
            error_type=CONNECTION_CUT if answer_began else "connection_failed",
            request_id=request_id,
        ) from error
    except httpx.DecodingError as error:
        raise ServerError(
            f"the server's answer cannot be read: {error}",
            error_type="malformed_answer",
            request_id=request_id,
        ) from error
