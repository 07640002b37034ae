"""Connections of a server: accepted one at a time, and bounded in time wherever a client can stall.

Several servers share one listening socket. Each takes one connection per turn of its event loop, so a busy server
takes fewer; asyncio's own server takes all that wait, and one process would serve a whole burst alone.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["Acceptor", "BoundedProtocol"]

HEAD_TIMEOUT_S = 15.0  # from a request's first byte, or a connection's beginning, to the end of its headers
UNREAD_TIMEOUT_S = 30.0  # for a client that does not read its answer
PAUSE_S = 0.1


class Acceptor:
    """Accepts on a socket it is given and does not close."""

    def __init__(self, listener: socket.socket, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._make_protocol = make_protocol
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

    def _resume(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> bool:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False  # another server was faster, or the client has gone again
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            self._loop.remove_reader(self._listener)  # what waits stays in the backlog, for another server perhaps
            self._loop.call_later(PAUSE_S, self._resume)
            return False
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._make_protocol, connection))
        self._tasks.add(task)  # the loop itself keeps weak references only
        task.add_done_callback(self._accepted)
        return True

    def _accepted(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the connection failed at once; there is nobody to tell


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with an end for requests that never come and answers that are never read."""

    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new client has so long for its first request."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """No timer outlives its connection."""
        self._stop_head_timer()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of a request: its head has so long to come."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """It came."""
        self._stop_head_timer()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It has read."""
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """An idle connection is closed; one whose last answer was never read is cut."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
