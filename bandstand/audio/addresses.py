"""Which network addresses an `audio_url` may lead to: the public ones, and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# IPv4-embedding IPv6 of NAT64 (RFC 6052): how a host without IPv4 reaches the IPv4 internet.
_NAT64 = IPv6Network("64:ff9b::/96")
# All of the public IPv6 addresses lie here (RFC 4291, section 2.4); what does not is loopback,
# local, multicast, mapped, or not handed out.
_IPV6_UNICAST = IPv6Network("2000::/3")
# Not public, although `is_global` of some supported Python says so (IANA's special-purpose
# registries); and one address that serves credentials to virtual machines from a public range.
_NOT_PUBLIC: tuple[Network, ...] = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv4Network("168.63.129.16/32"),
    IPv6Network("2002::/16"),  # 6to4: embeds an IPv4 address, and is deprecated (RFC 7526)
    IPv6Network("3fff::/20"),
)


def may_be_fetched_from(address: Address, allowed: Iterable[Network]) -> bool:
    """Say whether a connection to the address may be made.

    Args:
        address: as the name service answered.
        allowed: networks that are not public and may be reached after all.
    """
    target = _embedded_ipv4(address) or address
    return is_public(target) or any(target in network for network in allowed)


def is_public(address: Address) -> bool:
    """Say whether anybody on the internet could reach the address as well."""
    if isinstance(address, IPv6Address) and address not in _IPV6_UNICAST:
        return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _NOT_PUBLIC)
    )


def _embedded_ipv4(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that a connection would really go to, if it goes to one."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped
