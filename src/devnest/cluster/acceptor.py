"""How a server comes by its connections: one at a time, and no more than it has room for.

Several servers share one listening socket. Each takes one connection per turn of its event loop, so a busy server
takes fewer; asyncio's own server takes all that wait, and one process would serve a whole burst alone.
"""

import asyncio
import errno
import resource
import socket
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any

from devnest.cluster.connections import BoundedProtocol

__all__ = ["Acceptor", "has_room", "most_connections"]

MAX_CONNECTIONS = 20_000  # of one server, at about 10 KiB for an idle one
OTHER_DESCRIPTORS = 200  # of a server: its management, database, pool, mail
ROOM = 100  # connections closed at once where there are as many
PAUSE_S = 0.1


class Acceptor:
    """Accepts on a socket it is given and does not close, as long as `has_room` says so."""

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        has_room: Callable[[], bool],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._make_protocol = make_protocol
        self._has_room = has_room
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_open = True
        self._resume()

    def close(self) -> None:
        """Accept no more. Whether somebody waits is for the servers that stay, or for `take_all`."""
        self._is_open = False
        self._loop.remove_reader(self._listener)

    def take_all(self) -> None:
        """Accept everybody who waits already, since nobody else will."""
        while self._accept():
            pass

    async def settle(self) -> None:
        """Wait until every connection that was accepted has its protocol, or has failed."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _resume(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._listener, self._accept)

    def _pause(self) -> None:
        """What waits stays in the backlog, for another server perhaps."""
        self._loop.remove_reader(self._listener)
        self._loop.call_later(PAUSE_S, self._resume)

    def _accept(self) -> bool:
        if not self._has_room():
            self._pause()
            return False
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False  # another server was faster, or the client has gone again
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
        self._tasks.add(task)  # the loop itself keeps weak references only
        task.add_done_callback(self._accepted)
        return True

    def _accepted(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the connection failed at once; there is nobody to tell


def most_connections() -> int:
    """How many a server takes: so many, or what its descriptors allow."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(limit - OTHER_DESCRIPTORS, limit // 2))


def has_room(connections: Collection[BoundedProtocol], most: int) -> bool:
    """Whether one more may come. Where there are too many, the network with most idle ones loses some of those."""
    if len(connections) < most:
        return True
    idle: defaultdict[str, list[BoundedProtocol]] = defaultdict(list)
    for connection in connections:
        if connection.is_idle():
            idle[connection.network].append(connection)
    for connection in max(idle.values(), key=len, default=[])[:ROOM]:
        connection.transport.close()
    return bool(idle)
