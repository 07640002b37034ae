"""Whose an address is, for fairness and throttling: an IPv6 subscriber has a whole network of them."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

__all__ = ["network"]


@lru_cache(4096)
def network(client_address: str) -> str:
    """One subscriber's network: an IPv6 customer has a /64 at least."""
    try:
        address = ip_address(client_address)
    except ValueError:
        return client_address or "none"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((int(address), 64), strict=False))
    return client_address
