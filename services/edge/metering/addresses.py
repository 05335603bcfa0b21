"""Whose address a request comes from: what counts against the limits of a caller without a key. Pure."""

import ipaddress
from collections.abc import Sequence

_GROUP_BITS = 64
"""Who has an IPv6 address has a whole network of this prefix."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_group(peer: str | None, forwarded_for: Sequence[str], hops: int) -> str:
    """Return the address that limits are counted for: an IPv4 address, or an IPv6 network.

    `peer` is the socket's; behind `hops` trusted proxies it is what the outermost of them saw, the one that many from
    the right of X-Forwarded-For (`forwarded_for`, its values in order). What stands further left anybody may write.
    """
    entries = [entry.strip() for value in forwarded_for for entry in value.split(",")]
    seen = _parse(entries[-hops]) if 0 < hops <= len(entries) else None
    address = seen or _parse(peer or "")
    if address is None:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(address) >> (128 - _GROUP_BITS) << (128 - _GROUP_BITS), _GROUP_BITS)))
        address = address.ipv4_mapped
    return str(address)


def _parse(text: str) -> Address | None:
    """Return the address in `text`, which may have a port or a zone."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
