"""Network addresses in one form: of peers, of what proxies forward, and of the proxies that an operator names.

The same host has many spellings. A socket that listens on `::` calls an IPv4 client `::ffff:192.0.2.1`, a link-local
peer has a zone (`fe80::1%eth0`), and proxies add ports and brackets. Whatever is compared, counted or stored has gone
through `canonical` first. `Forwarded` (RFC 7239) is not read: HAProxy, nginx and the clouds all write X-Forwarded-For,
and with two headers a client could write the one that its proxy leaves alone.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import structlog

__all__ = [
    "MAX_PORT",
    "TrustedProxies",
    "canonical",
    "host_and_port",
    "subscriber_network",
    "trusted_network",
]

MAX_ADDRESS_CHARS = 80  # 45 of an IPv6 address that ends in an IPv4 one, brackets, a zone, a port
MAX_HOPS = 16  # proxies behind one another; the rest of the header is not looked at
MAX_PORT = 65535
MAPPED_PREFIX_BITS = 96  # ::ffff:0:0/96 is IPv4 (RFC 4291, 2.5.5.2)
SUBSCRIBER_PREFIX_BITS = 64  # the least that a provider gives an IPv6 customer (RFC 6177)
MAX_CACHED_ADDRESSES = 4096
FORWARDED_FOR = b"x-forwarded-for"
IPV4_WITH_PORT = re.compile(r"([0-9.]+):([0-9]{1,5})")
HOST_AND_PORT = re.compile(r"(?:\[([^\[\]\s]+)\]|([^\[\]:/@\s]+)):([0-9]{1,5})")
BRACKETED = re.compile(r"\[([^\[\]]+)\](?::([0-9]{1,5}))?")
log = structlog.get_logger("devnest.addresses")


def canonical(text: str) -> str | None:
    """The address without port, brackets and zone, IPv4 as IPv4; None for anything that is no address.

    Args:
        text: what a socket, a proxy or a person calls it.
    """
    text = text.strip(" \t")
    if len(text) > MAX_ADDRESS_CHARS:
        return None
    if found := BRACKETED.fullmatch(text) or IPV4_WITH_PORT.fullmatch(text):
        text, port = found.groups()
        if port is not None and int(port) > MAX_PORT:
            return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address)))  # without its zone
    return str(address)


@lru_cache(MAX_CACHED_ADDRESSES)
def subscriber_network(address: str) -> str:
    """Whose a canonical address is, for fairness and throttling: an IPv6 customer has a /64 at least."""
    if ":" in address:
        return str(IPv6Network((int(IPv6Address(address)), SUBSCRIBER_PREFIX_BITS), strict=False))
    return address or "none"


def trusted_network(text: str) -> str:
    """A network, or an address as a network of one, as an operator writes it, in one form.

    Raises:
        ValueError: It is neither, or its address has bits beyond the prefix, which is a mistake in one of the two.
    """
    if "%" in text:
        raise ValueError(f"{text!r} has a zone, which is not compared")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no address and no network") from None
    try:
        ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} has host bits set; the network is {network}") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= MAPPED_PREFIX_BITS:
        return str(IPv4Network((int(mapped), network.prefixlen - MAPPED_PREFIX_BITS)))
    return str(network)


def host_and_port(text: str) -> tuple[str, int]:
    """Where to listen: `127.0.0.1:9000`, `[::1]:9000` or `name:9000`.

    Raises:
        ValueError: It is none of these. A host that is left out is not taken for all addresses.
    """
    found = HOST_AND_PORT.fullmatch(text)
    if found is None or int(found[3]) > MAX_PORT:
        raise ValueError(f"{text!r} is no HOST:PORT, such as 127.0.0.1:9000 or [::1]:9000")
    return found[1] or found[2], int(found[3])


class TrustedProxies:
    """The networks whose X-Forwarded-For is believed, each in the form of `trusted_network`."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = [_as_ipv6(ip_network(network)) for network in networks]
        self._hop = lru_cache(MAX_CACHED_ADDRESSES)(self._read_hop)
        self._has_warned = False

    def __contains__(self, address: str) -> bool:
        """Whether a canonical address is that of a proxy."""
        return bool(self._networks) and self._hop(address)[1]

    def client_of(self, proxy: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The nearest address that is no proxy's, walking from `proxy`, which is one, towards the client.

        Each proxy appends the address it was called from. An entry that is no address ends the walk: then the request
        counts as that of the proxy which wrote it, for whatever stands there may be the client's own invention.

        Args:
            proxy: the canonical address of the connection's peer.
            headers: the request's, names in lower case.
        """
        lines = [value for name, value in headers if name == FORWARDED_FOR]
        client = proxy
        for entry in reversed(b",".join(lines).decode("latin-1").rsplit(",", MAX_HOPS)):
            text = entry.strip(" \t")
            if not text:
                continue  # RFC 9110, 5.6.1: empty elements of a list do not count
            address, is_proxy = self._hop(text) if len(text) <= MAX_ADDRESS_CHARS else (None, False)
            if address is None:
                self._warn(client, text)
                return client
            client = address
            if not is_proxy:
                return client
        return client

    def _read_hop(self, text: str) -> tuple[str | None, bool]:
        address = canonical(text)
        if address is None:
            return None, False
        as_ipv6 = IPv6Address(address if ":" in address else f"::ffff:{address}")
        return address, any(as_ipv6 in network for network in self._networks)

    def _warn(self, proxy: str, entry: str) -> None:
        """Once: a client can cause it with every request."""
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "X-Forwarded-For holds no address", proxy=proxy, entry=entry[:MAX_ADDRESS_CHARS]
            )


def _as_ipv6(network: IPv4Network | IPv6Network) -> IPv6Network:
    """All in one family, so that `::/0` holds every address there is."""
    if isinstance(network, IPv6Network):
        return network
    return IPv6Network(f"::ffff:{network.network_address}/{MAPPED_PREFIX_BITS + network.prefixlen}")
