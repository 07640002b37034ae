"""Network addresses in one canonical form.

The same host has several spellings. A socket that listens on `::` reports an IPv4 client as
`::ffff:192.0.2.1`, a link-local peer has a zone (`fe80::1%eth0`), and proxies add ports and
brackets. Every address passes through `canonical` before it is compared, counted or stored.

`Forwarded` (RFC 7239) is ignored. HAProxy, nginx and the cloud load balancers write
`X-Forwarded-For`. If both headers were read, a client could send the one that its proxy passes on
unchanged.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = [
    "MAX_PORT",
    "TrustedProxies",
    "canonical",
    "host_and_port",
    "subscriber_network",
    "trusted_network",
]

MAX_ADDRESS_CHARS = 80  # longer texts are not parsed: 45 for IPv6, brackets, a zone and a port
MAX_HOPS = 16  # the most entries of `X-Forwarded-For` that are read, from the nearest proxy on
MAX_PORT = 65535
MAPPED_PREFIX_BITS = 96  # `::ffff:0:0/96` holds the IPv4 addresses (RFC 4291, 2.5.5.2)
SUBSCRIBER_PREFIX_BITS = 64  # the smallest network a provider gives an IPv6 customer (RFC 6177)
MAX_CACHED_ADDRESSES = 4096  # results kept by each cache below, so that clients cannot fill memory
FORWARDED_FOR = b"x-forwarded-for"
IPV4_WITH_PORT = re.compile(r"([0-9.]+):([0-9]{1,5})")
HOST_AND_PORT = re.compile(r"(?:\[([^\[\]\s]+)\]|([^\[\]:/@\s]+)):([0-9]{1,5})")
BRACKETED = re.compile(r"\[([^\[\]]+)\](?::([0-9]{1,5}))?")


def canonical(text: str) -> str | None:
    """Return an address without port, brackets and zone, and IPv4-mapped addresses as IPv4.

    Args:
        text: An address as a socket, a proxy or a person writes it.

    Returns:
        The canonical text, or None if `text` is not an address.
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
        return str(IPv6Address(int(address)))  # the integer has no zone
    return str(address)


@lru_cache(MAX_CACHED_ADDRESSES)
def subscriber_network(address: str) -> str:
    """Return the network of one customer, the unit of fair queueing and throttling.

    Args:
        address: A canonical address, or an empty text for an unknown one.

    Returns:
        The /64 network of an IPv6 address, an IPv4 address itself, or `none` for an unknown one.
    """
    if ":" in address:
        return str(IPv6Network((int(IPv6Address(address)), SUBSCRIBER_PREFIX_BITS), strict=False))
    return address or "none"


def trusted_network(text: str) -> str:
    """Return a network in canonical form; a single address becomes a network of one address.

    Args:
        text: A network or an address as an operator writes it.

    Raises:
        ValueError: `text` is neither, has a zone, or has bits set beyond its prefix. Either the
            address or the prefix is a mistake then.
    """
    if "%" in text:
        raise ValueError(f"{text!r} has a zone, which is not compared")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is neither an address nor a network") from None
    try:
        ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} has host bits set; the network is {network}") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= MAPPED_PREFIX_BITS:
        return str(IPv4Network((int(mapped), network.prefixlen - MAPPED_PREFIX_BITS)))
    return str(network)


def host_and_port(text: str) -> tuple[str, int]:
    """Split a listening address: `127.0.0.1:9000`, `[::1]:9000` or `name:9000`.

    Raises:
        ValueError: `text` has another form. A missing host does not mean all addresses.
    """
    found = HOST_AND_PORT.fullmatch(text)
    if found is None or int(found[3]) > MAX_PORT:
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:9000 or [::1]:9000")
    return found[1] or found[2], int(found[3])


class TrustedProxies:
    """The networks of proxies whose `X-Forwarded-For` header is believed.

    Args:
        networks: Networks in the form that `trusted_network` returns.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = [_as_ipv6(ip_network(network)) for network in networks]
        self._hop = lru_cache(MAX_CACHED_ADDRESSES)(self._read_hop)
        self._has_warned = False

    def __contains__(self, address: str) -> bool:
        """Return whether a canonical address belongs to a trusted proxy."""
        return bool(self._networks) and self._hop(address)[1]

    def client_of(self, proxy: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Return the address of the client behind a trusted proxy.

        Each proxy appends the address that called it. The entries are read from the last to the
        first, until one is not a trusted proxy. An entry that is not an address ends the search,
        because the client may have invented it: the request then counts as one of the proxy that
        wrote the entry.

        Args:
            proxy: The canonical address of the connection's peer, which is a trusted proxy.
            headers: The request's headers, with names in lower case.
        """
        lines = [value for name, value in headers if name == FORWARDED_FOR]
        client = proxy
        for entry in reversed(b",".join(lines).decode("latin-1").rsplit(",", MAX_HOPS)):
            text = entry.strip(" \t")
            if not text:
                continue  # RFC 9110, 5.6.1: empty list elements do not count
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
        """Log the first invalid entry only: a client can send one with every request."""
        if not self._has_warned:
            self._has_warned = True
            import structlog  # imported here: `devnest load` reads addresses without a log

            log = structlog.get_logger("devnest.addresses")
            log.warning(
                "X-Forwarded-For holds no address", proxy=proxy, entry=entry[:MAX_ADDRESS_CHARS]
            )


def _as_ipv6(network: IPv4Network | IPv6Network) -> IPv6Network:
    """Map IPv4 networks into IPv6, so that `::/0` contains every address."""
    if isinstance(network, IPv6Network):
        return network
    return IPv6Network(f"::ffff:{network.network_address}/{MAPPED_PREFIX_BITS + network.prefixlen}")
