"""Accepts a server's connections: one per turn of its event loop, up to a limit.

Several servers share one listening socket. A busy event loop turns less often, so a busy server
accepts fewer connections. asyncio's own server accepts everything in the kernel's queue at once, so
one process would get a whole burst.
"""

import asyncio
import errno
import resource
import socket
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any

from devnest.cluster.connections import BoundedProtocol

__all__ = ["Acceptor", "connection_limit", "may_accept"]

# Bounds the memory for connections of one server; `benchmarks/idle.py` measures what an idle one
# takes.
MAX_CONNECTIONS = 20_000
# A server keeps these file descriptors for management, database, pool and mail.
RESERVED_DESCRIPTORS = 200
# When a server is full it closes up to this many idle connections together, so that the search for
# them is not repeated for each new connection.
MAX_CLOSED_TOGETHER = 100
# A server that is full, or out of descriptors or memory, tries again after this time.
PAUSE_S = 0.1


class Acceptor:
    """Accepts connections on a listening socket, which its caller closes.

    Args:
        listener: The socket, non-blocking. Other processes may accept on it too.
        make_protocol: Makes the protocol of each new connection.
        may_accept: Called before each connection; False pauses accepting for `PAUSE_S`.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        may_accept: Callable[[], bool],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._make_protocol = make_protocol
        self._may_accept = may_accept
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_open = True
        self._resume()

    def close(self) -> None:
        """Stop accepting. Connections in the kernel's queue are left for the other servers."""
        self._is_open = False
        self._loop.remove_reader(self._listener)

    def accept_all(self) -> None:
        """Accept every connection in the kernel's queue now."""
        while self._accept():
            pass

    async def wait_accepted(self) -> None:
        """Wait until every accepted connection has its protocol or has failed."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _resume(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._listener, self._accept)

    def _pause(self) -> None:
        """Leave new connections in the kernel's queue for a while, or to other servers."""
        self._loop.remove_reader(self._listener)
        self._loop.call_later(PAUSE_S, self._resume)

    def _accept(self) -> bool:
        if not self._may_accept():
            self._pause()
            return False
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False  # another server was faster, or the client closed the connection
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            self._pause()
            return False
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(
            self._loop.connect_accepted_socket(self._make_protocol, connection)
        )
        self._tasks.add(task)  # the event loop keeps only weak references to tasks
        task.add_done_callback(self._accepted)
        return True

    def _accepted(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # read it, or asyncio logs the failed connection as an error


def connection_limit() -> int:
    """Return how many connections a server may have, given its limit of file descriptors."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(limit - RESERVED_DESCRIPTORS, limit // 2))


def may_accept(connections: Collection[BoundedProtocol], limit: int) -> bool:
    """Return whether a server may accept one more connection, and close idle ones if it is full.

    Only the network with the most idle connections loses some, so a client that opens many cannot
    push out the others.

    Args:
        connections: The open connections.
        limit: How many there may be.
    """
    if len(connections) < limit:
        return True
    idle: defaultdict[str, list[BoundedProtocol]] = defaultdict(list)
    for connection in connections:
        if connection.is_idle():
            idle[connection.network].append(connection)
    for connection in max(idle.values(), key=len, default=[])[:MAX_CLOSED_TOGETHER]:
        connection.transport.close()
    return bool(idle)
