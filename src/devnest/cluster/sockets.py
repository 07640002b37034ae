"""Opens the listening sockets."""

import errno
import socket
from contextlib import ExitStack
from typing import Any

import structlog

__all__ = ["PortUnavailable", "address_of", "listen"]

# How many connections wait in the kernel to be accepted. Linux lowers it to net.core.somaxconn.
BACKLOG = 4096
# Bounds the search for a port that is free on all addresses of a name.
MAX_TRIES = 10
# A name may have addresses that this machine lacks, such as IPv6 ones on a kernel without IPv6.
FOREIGN_ADDRESS_ERRORS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
log = structlog.get_logger("devnest.cluster")


class PortUnavailable(Exception):
    """DevNest cannot listen on an address.

    Attributes:
        host: The address or the name.
        port: The port.
    """

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host} port {port}: {reason}")
        self.host = host
        self.port = port


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on an address, or on all of a name's addresses that this machine has.

    `localhost` is both `127.0.0.1` and `::1`, and a client may try either first.

    Args:
        host: An address or a name.
        port: A port, or 0 for any that is free.

    Returns:
        Non-blocking sockets, all with the same port.

    Raises:
        PortUnavailable: This machine has none of the addresses, or the port is in use on one.
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
    """Bind all addresses this machine has; if the port is 0, the first socket chooses it."""
    listeners = list[socket.socket]()
    missing = None
    with ExitStack() as stack:
        for family, (host, port, *rest) in dict.fromkeys(addresses):
            if listeners:
                port = listeners[0].getsockname()[1]
            try:
                listeners.append(stack.enter_context(_bind(family, (host, port, *rest))))
            except OSError as error:
                if error.errno not in FOREIGN_ADDRESS_ERRORS:
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
    """Return the host and port for a URL that reaches the listeners.

    Args:
        host: What `listen` was given; it is kept if it is a name with several addresses.
        listeners: What `listen` returned.
    """
    address, port = listeners[0].getsockname()[:2]
    if len(listeners) > 1:
        return f"{host}:{port}"
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
