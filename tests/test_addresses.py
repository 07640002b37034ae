"""One form for each network address, and whom a chain of proxies speaks for."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from devnest.addresses import (
    MAX_HOPS,
    TrustedProxies,
    canonical,
    subscriber_network,
    trusted_network,
)

PROXY = "10.0.0.1"
CLIENT = "203.0.113.9"
IPV4 = st.ip_addresses(v=4)
IPV6 = st.ip_addresses(v=6).filter(lambda address: not str(address).startswith("::ffff:"))
PORTS = st.integers(0, 65535)
PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8::/32"])


@st.composite
def spellings(draw: st.DrawFn) -> tuple[IPv4Address | IPv6Address, str]:
    """An address, and one of the ways in which sockets, proxies and people write it."""
    if draw(st.booleans()):
        ipv4 = draw(IPV4)
        mapped = IPv6Address(f"::ffff:{ipv4}")
        port = draw(PORTS)
        forms = [
            f"{ipv4}",
            f"{ipv4}:{port}",
            f"::ffff:{ipv4}",
            f"{mapped}",
            f"[::ffff:{ipv4}]:{port}",
            f"[{mapped}]",
        ]
        return ipv4, draw(st.sampled_from([*forms, f" {ipv4}\t", f"::FFFF:{ipv4}"]))
    ipv6 = draw(IPV6)
    text = draw(st.sampled_from([str(ipv6), ipv6.exploded, str(ipv6).upper()]))
    zone = draw(st.sampled_from(["", "%eth0", "%1"]))
    return ipv6, draw(
        st.sampled_from([f"{text}{zone}", f"[{text}{zone}]", f"[{text}{zone}]:{draw(PORTS)}"])
    )


@given(spellings())
def test_every_spelling_of_an_address_is_the_same_one(
    spelling: tuple[IPv4Address | IPv6Address, str],
) -> None:
    """With its port, its brackets, its zone, or as IPv6 sockets call an IPv4 client."""
    address, text = spelling
    assert canonical(text) == str(address)


@given(st.text() | st.text("0123456789abcdef.:[]% \t"))
def test_what_is_no_address_is_none(text: str) -> None:
    """And whatever is one has one form: that form is its own."""
    found = canonical(text)
    assert found is None or found == str(ip_address(found)) == canonical(found)


@pytest.mark.parametrize(
    "text",
    [
        "", "unknown", "_hidden", "x" * 256, "1" * 10_000, "10.0.0", "10.0.0.01", "10.0.0.256", "10.0.0.1:",
        "10.0.0.1:99999", "10.0.0.1:port", "10.0.0.1 10.0.0.2", "[::1", "::1]", "[]", "[::1]80", "[::1]:", "[[::1]]",
        "::1%", "\u0661.0.0.1", '"[::1]:80"', "for=10.0.0.1", "http://10.0.0.1", "10.0.0.0/8", "10.0.0.1\0",
        "10.0.0.1\n", "fe80::1%" + "z" * 100,
    ],
    ids=lambda text: ascii(text[:20]),
)  # fmt: skip
def test_garbage_is_no_address(text: str) -> None:
    """Nothing is guessed, and nothing long is looked at."""
    assert canonical(text) is None


@given(IPV4 | IPV6, st.data())
def test_a_network_is_believed_in_full(
    address: IPv4Address | IPv6Address, data: st.DataObject
) -> None:
    """What the option accepts holds for every address in it, however the operator and the socket
    write them.
    """
    prefix = data.draw(st.integers(0, address.max_prefixlen))
    network = ip_network(f"{address}/{prefix}", strict=False)
    offset = data.draw(st.integers(0, network.num_addresses - 1))
    member = type(address)(int(network.network_address) + offset)
    written = [str(network), network.with_netmask] if network.version == 4 else [str(network)]
    for text in written:
        proxies = TrustedProxies([trusted_network(text)])
        found = canonical(str(member))
        assert found is not None
        assert found in proxies
        if member.version == 4:
            mapped = canonical(f"::ffff:{member}")
            assert mapped is not None
            assert mapped in proxies
    if str(address) != str(network.network_address):
        with pytest.raises(ValueError, match="host bits"):
            trusted_network(f"{address}/{prefix}")


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("127.0.0.1", "127.0.0.1/32"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("::1", "::1/128"),
        ("::ffff:127.0.0.1", "127.0.0.1/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
    ],
)
def test_networks_have_one_form(text: str, network: str) -> None:
    """IPv4 as IPv4, whatever it was written as."""
    assert trusted_network(text) == network


@pytest.mark.parametrize(
    "text", ["127.0.0.1/8", "127.0.0.1/255.0.0.0", "::1/64", "10.0.0.0/99", "10.0.0.0/", "proxy", "*", "fe80::1%eth0",
             "127.0.0.1:80", "[::1]", "010.0.0.1", "::ffff:10.0.0.1/104"],
)  # fmt: skip
def test_what_would_not_be_believed_is_refused(text: str) -> None:
    """A mistake is found at the start, not when everybody shares one address."""
    with pytest.raises(ValueError, match=r"neither an address|host bits|zone"):
        trusted_network(text)


def test_all_of_ipv6_holds_all_of_ipv4() -> None:
    """Which is `::ffff:0:0/96` there; and one of the two alone holds the other not."""
    assert "192.0.2.1" in TrustedProxies(["::/0"])
    assert "2001:db8::1" not in TrustedProxies(["0.0.0.0/0"])
    assert PROXY not in TrustedProxies()


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], PROXY),
        ([""], PROXY),
        ([" , ,"], PROXY),
        ([CLIENT], CLIENT),
        ([f"198.51.100.1, {CLIENT}"], CLIENT),
        ([f"{CLIENT}, 10.2.3.4"], CLIENT),
        ([f"{CLIENT}, 10.2.3.4:80", "[2001:db8::7]:4711"], CLIENT),
        (["198.51.100.1", CLIENT], CLIENT),
        (["198.51.100.1,", f"{CLIENT} ,, "], CLIENT),
        (["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
        ([f"::ffff:{CLIENT}"], CLIENT),
        (["[2001:db9::1%eth0]:443"], "2001:db9::1"),
        (["garbage"], PROXY),
        (["x" * 256], PROXY),
        (["x" * 100_000], PROXY),
        ([f"{CLIENT}, garbage"], PROXY),
        ([f"garbage, {CLIENT}"], CLIENT),
        ([f"{CLIENT}, garbage, 10.2.3.4"], "10.2.3.4"),
        ([", ".join([CLIENT, *["10.2.3.4"] * MAX_HOPS])], CLIENT),
        ([", ".join([CLIENT, *["10.2.3.4"] * (MAX_HOPS + 1)])], "10.2.3.4"),
        ([", ".join([CLIENT] * 10_000)], CLIENT),
    ],
)
def test_the_client_is_the_nearest_address_that_is_no_proxy(lines: list[str], client: str) -> None:
    """From the right, over all lines.

    What no proxy wrote is not looked at, and garbage ends the walk.
    """
    headers = [
        (b"host", b"x"),
        *((b"x-forwarded-for", line.encode()) for line in lines),
        (b"forwarded", b"for=192.0.2.7"),
    ]
    assert PROXIES.client_of(PROXY, headers) == client


@given(st.lists(st.binary()))
def test_no_header_is_more_than_an_address(lines: list[bytes]) -> None:
    """Whatever comes, the answer is an address in its one form."""
    client = PROXIES.client_of(PROXY, [(b"x-forwarded-for", line) for line in lines])
    assert canonical(client) == client


def test_garbage_is_logged_once() -> None:
    """With the proxy that sent it; a client could fill the log otherwise."""
    proxies = TrustedProxies(["10.0.0.0/8"])
    with capture_logs() as lines:
        for garbage in (b"unknown", b"x" * 10_000):
            proxies.client_of(PROXY, [(b"x-forwarded-for", garbage)])
    assert [(line["proxy"], line["entry"]) for line in lines] == [(PROXY, "unknown")]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1", "fe80::/64"),
        ("", "none"),
    ],
)
def test_a_subscriber_has_a_whole_network_of_ipv6(address: str, network: str) -> None:
    """Throttles and turns in the queue count by it."""
    assert subscriber_network(address) == network
