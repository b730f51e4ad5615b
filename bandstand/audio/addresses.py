"""The network addresses that an `audio_url` may lead to: public ones, and allowed networks."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# NAT64 (RFC 6052): IPv6 addresses that embed an IPv4 address, for hosts without IPv4.
_NAT64 = IPv6Network("64:ff9b::/96")
# All public IPv6 addresses are in this network (RFC 4291, section 2.4); all others are loopback,
# local, multicast, mapped, or not assigned.
_IPV6_UNICAST = IPv6Network("2000::/3")
# Not public by IANA's special-purpose registries, although `is_global` of some supported Python
# version is true; and one address in a public range that gives credentials to virtual machines.
_NOT_PUBLIC: tuple[Network, ...] = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv4Network("168.63.129.16/32"),
    IPv6Network("2002::/16"),  # 6to4: embeds an IPv4 address, and is deprecated (RFC 7526)
    IPv6Network("3fff::/20"),
)


def may_be_fetched_from(address: Address, allowed: Iterable[Network]) -> bool:
    """Return whether a connection to the address is allowed.

    Args:
        address: the result of name resolution.
        allowed: networks that are not public and are allowed.
    """
    target = _embedded_ipv4(address) or address
    return is_public(target) or any(target in network for network in allowed)


def is_public(address: Address) -> bool:
    """Return whether every host on the internet can reach the address."""
    if isinstance(address, IPv6Address) and address not in _IPV6_UNICAST:
        return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _NOT_PUBLIC)
    )


def _embedded_ipv4(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that a connection would actually go to; None: an IPv6 address."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped
