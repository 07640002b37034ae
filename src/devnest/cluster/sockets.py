"""The listening socket."""

import socket

__all__ = ["PortUnavailable", "address_of", "listen"]

BACKLOG = 4096  # the kernel lowers it to net.core.somaxconn


class PortUnavailable(Exception):
    """The address cannot be listened on."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host} port {port}: {reason}")
        self.host = host
        self.port = port


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen, once, before anything slow; raises `PortUnavailable`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError, OverflowError) as error:
        raise PortUnavailable(host, port, getattr(error, "strerror", None) or str(error)) from error
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket) -> str:
    """The address as the host and port of a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
