"""Which addresses we connect to when a stranger names the host: only those that anybody could reach as well. Pure.

A name that leads to our own machine, to our network or to a cloud's metadata service (169.254.169.254) would let the
stranger ask questions from where we stand. The lists are IANA's special-purpose registries (RFC 6890), written out, as
the standard library's differ from one version to the next.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from schemas.errors import Refused

PRIVATE = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
}
"""Taken if the operator wants sources and callbacks in the own network."""

SPECIAL = {
    "unspecified": ("0.0.0.0/8", "::/128"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "reserved": (
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20"),
    ),
}
"""Never taken."""

_Network = IPv4Network | IPv6Network
_PRIVATE = [(kind, ip_network(text)) for kind, texts in PRIVATE.items() for text in texts]
_SPECIAL = [(kind, ip_network(text)) for kind, texts in SPECIAL.items() for text in texts]
_GLOBAL_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


def checked_address(host: str, address: str, *, private: bool) -> str:
    """`address`, which `host` has, if we may connect to it, else Refused 403 with host, address and reason.

    `private`: loopback and private addresses are fine.
    """
    kind = special_kind(address)
    if kind and not (private and kind in PRIVATE):
        raise Refused(f"host {host}", "a public address", f"{address}, which is {kind}", status=403)
    return address


def special_kind(address: str) -> str:
    """Why `address` is not one of the public internet: `loopback`, `private`, `link-local`, …; "" if it is.

    An IPv6 address that contains an IPv4 one (mapped, NAT64, 6to4) is what that one is, as it may lead there.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return "no address"
    if isinstance(parsed, IPv6Address):
        parsed = _embedded(parsed) or parsed
    for kind, network in _PRIVATE + _SPECIAL:
        if parsed.version == network.version and parsed in network:
            return kind
    return "" if isinstance(parsed, IPv4Address) or parsed in _GLOBAL_V6 else "reserved"


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
