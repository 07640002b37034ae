"""The listening sockets."""

import errno
import socket
from contextlib import ExitStack
from typing import Any

import structlog

__all__ = ["PortUnavailable", "address_of", "listen"]

BACKLOG = 4096  # the kernel lowers it to net.core.somaxconn
MAX_TRIES = 10  # to find a port that is free on all addresses of a name
NOT_OURS = (
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
)  # of a name's addresses: IPv6 where the kernel has none, say
log = structlog.get_logger("devnest.cluster")


class PortUnavailable(Exception):
    """The address cannot be listened on."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host} port {port}: {reason}")
        self.host = host
        self.port = port


def listen(host: str, port: int) -> list[socket.socket]:
    """Bind and listen, once, before anything slow, on every address of a name that this machine has.

    `localhost` is `127.0.0.1` and `::1`, and clients try either first. All sockets have the same port.

    Args:
        host: an address or a name.
        port: 0 for one that is free.

    Raises:
        PortUnavailable: None of the addresses is this machine's, or somebody has the port on one of them.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        tries = MAX_TRIES if port == 0 else 1
        while True:
            tries -= 1
            try:
                return _bind_all([(family, address) for family, _, _, _, address in found])
            except OSError as error:
                if error.errno != errno.EADDRINUSE or tries == 0:
                    raise
    except (OSError, UnicodeError, OverflowError) as error:
        raise PortUnavailable(host, port, getattr(error, "strerror", None) or str(error)) from error


def _bind_all(addresses: list[tuple[int, Any]]) -> list[socket.socket]:
    """The first socket finds the port, where that is 0; raises `OSError`."""
    listeners = list[socket.socket]()
    missing = None
    with ExitStack() as stack:
        for family, (host, port, *rest) in dict.fromkeys(addresses):
            if listeners:
                port = listeners[0].getsockname()[1]
            try:
                listeners.append(stack.enter_context(_bind(family, (host, port, *rest))))
            except OSError as error:
                if error.errno not in NOT_OURS:
                    raise
                missing = error
                log.info("address not listened on", address=host, reason=error.strerror)
        if not listeners:
            raise missing or OSError("there is no such address")
        stack.pop_all()
    return listeners


def _bind(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def address_of(host: str, listeners: list[socket.socket]) -> str:
    """The address as the host and port of a URL: a name that has several addresses as it is."""
    address, port = listeners[0].getsockname()[:2]
    if len(listeners) > 1:
        return f"{host}:{port}"
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
