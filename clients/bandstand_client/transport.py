"""Parts of the sync and the async client: addresses, headers, timeouts, errors."""

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
        ValueError: not an http(s) address, or a key that a header cannot contain.
    """
    url = httpx.URL(base_url)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"base_url must look like http://host:3000, not {base_url!r}")
    headers = {"Accept": "application/json"}
    if api_key is not None:
        headers["Authorization"] = authorization(api_key)
    # The caller sets the number of calls in flight; the pool has no limit.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
    return {"base_url": url, "headers": headers, "limits": limits, "follow_redirects": False}


def request_options(
    call: Call[Any], request_id: str, timeouts: Timeouts, left: float
) -> dict[str, Any]:
    """Return the options of one httpx request that has `left` seconds left."""
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
    """Return an id for one call with all its tries, for the server's logs."""
    return uuid4().hex


@contextmanager
def transport_errors(request_id: str, *, answer_began: bool) -> Iterator[None]:
    """Convert httpx's errors to the clients' errors.

    Args:
        request_id: of the current request.
        answer_began: the status has arrived, so an error now interrupts the answer.
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
            f"the connection was lost during the answer: {error}"
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
