"""Which addresses a name means, on real sockets."""

import errno
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from devnest.cluster.sockets import PortUnavailable, address_of, listen
from tests.support import http, running


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What the resolver says of a name, where a test has something to say."""
    known: dict[str, list[str]] = {}
    resolve = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> list[Any]:
        return [
            found
            for each in known.get(host, [host])
            for found in resolve(each, *arguments, **options)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of ::1 that somebody has, and nobody has on 127.0.0.1."""
    with socket.socket(socket.AF_INET6) as somebody:
        somebody.bind(("::1", 0))
        somebody.listen()
        yield somebody.getsockname()[1]


@pytest.mark.parametrize("addresses", [["::1", "127.0.0.1"], ["127.0.0.1", "::1", "127.0.0.1"]])
def test_a_name_is_listened_on_at_all_its_addresses(
    addresses: list[str], names: dict[str, list[str]]
) -> None:
    """Whichever a client tries first; at one port, and each once."""
    names["localhost"] = addresses
    listeners = listen("localhost", 0)
    try:
        port = listeners[0].getsockname()[1]
        assert sorted(listener.getsockname()[:2] for listener in listeners) == [
            ("127.0.0.1", port),
            ("::1", port),
        ]
        assert address_of("localhost", listeners) == f"localhost:{port}"
        for address in ("::1", "127.0.0.1"):
            socket.create_connection((address, port)).close()
    finally:
        for listener in listeners:
            listener.close()


@pytest.mark.parametrize("addresses", [["2001:db8::1", "127.0.0.1"], ["127.0.0.1", "192.0.2.1"]])
def test_an_address_that_this_machine_has_not_is_left_out(
    addresses: list[str], names: dict[str, list[str]]
) -> None:
    """A container without IPv6 has `::1 localhost` in its hosts file all the same."""
    names["localhost"] = addresses
    (listener,) = listen("localhost", 0)
    with closing(listener):
        assert address_of("localhost", [listener]) == f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_name_without_any_address_here_is_refused(names: dict[str, list[str]]) -> None:
    """With the reason of the last one."""
    names["elsewhere"] = ["192.0.2.1", "2001:db8::1"]
    with pytest.raises(PortUnavailable, match=r"cannot listen on elsewhere port 0: .*assign"):
        listen("elsewhere", 0)


def test_a_port_that_is_taken_on_one_address_is_taken(
    taken: int, names: dict[str, list[str]]
) -> None:
    """A client of the name could reach somebody else there; and nothing is left open."""
    names["localhost"] = ["127.0.0.1", "::1"]
    with pytest.raises(PortUnavailable, match="in use"):
        listen("localhost", taken)
    with socket.socket() as free:
        free.bind(("127.0.0.1", taken))


def test_another_free_port_is_tried(
    monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]
) -> None:
    """Where the one that is free on the first address is taken on the second."""
    names["localhost"] = ["127.0.0.1", "::1"]
    bind = socket.socket.bind
    refused = list[Any]()

    class Busy(socket.socket):
        def bind(self, address: Any) -> None:
            if address[0] == "::1" and len(refused) < 3:
                refused.append(address)
                raise OSError(errno.EADDRINUSE, "Address already in use")
            bind(self, address)

    monkeypatch.setattr(socket, "socket", Busy)
    listeners = listen("localhost", 0)
    assert len(listeners) == 2
    assert len(refused) == 3
    for listener in listeners:
        listener.close()


def test_localhost_serves_both(data_dir: Path) -> None:
    """A whole DevNest on it: the ready line names the host, and it stops as ever."""
    with running(data_dir, "--host", "localhost", "--processes", "2") as devnest:
        port = devnest.url.rpartition(":")[2]
        families = {
            family
            for family, *_ in socket.getaddrinfo("localhost", int(port), type=socket.SOCK_STREAM)
        }
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "[::1]")):
            if family in families:
                assert http.get(f"http://{address}:{port}/healthz").text == "ok\n"
