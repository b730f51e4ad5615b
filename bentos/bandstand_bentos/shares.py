"""Who counts as one client, and how much of something one client or model may have."""

from __future__ import annotations

import math
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

CLIENT = "bandstand.client"
"""Where a request's scope has its client: `scope["client"]` can be what a header says, because
uvicorn believes `X-Forwarded-For` from this host."""
_ONE_CUSTOMER = 64
"""Bits of an IPv6 address that providers assign to one customer, who chooses the others."""


def share_of(total: int, share: float) -> int:
    """Return a share of `total`, rounded up; at least 1, unless there is nothing to share."""
    # Rounded first: 0.1 of 30 would be 4 otherwise, because 0.1 is a little more than a tenth.
    return min(total, max(1, math.ceil(round(total * share, 9))))


@lru_cache(maxsize=4096)
def client_of(address: str) -> str:
    """Return the client that an address belongs to: the address, or the first half of an IPv6 one.

    A text that is no address (a Unix socket, a test) is a client of its own.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> _ONE_CUSTOMER << _ONE_CUSTOMER))
