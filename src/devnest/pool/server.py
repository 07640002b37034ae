"""`PoolServer`: shares a pool on a Unix socket between the processes of one user."""

import asyncio
import contextlib
import functools
import itertools
import json
import logging
import os
import socket
import stat
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from devnest.pool.core.stats import Stats
from devnest.pool.core.tasks import Task, check_options
from devnest.pool.errors import InvalidTask, PoolClosed, PoolError
from devnest.pool.pool import Pool
from devnest.pool.runtime.engine import Engine
from devnest.pool.wire.channel import Channel
from devnest.pool.wire.payload import Packed
from devnest.pool.wire.peer import bind, is_same_user
from devnest.pool.wire.protocol import (
    MAX_FRAME_BYTES,
    OK,
    VERSION,
    Frame,
    Kind,
    WireError,
    read_submission,
    write_greeting,
)
from devnest.pool.wire.replies import Deferred, write_reply

__all__ = ["PoolServer"]

MAX_CLIENTS = 1024  # connections at a time; each costs a descriptor and memory for its replies
# Replies that one client has not read, with their memory files. Beyond it the client is
# disconnected.
MAX_UNREAD_BYTES = 256 * 1024 * 1024
HELLO_TIMEOUT_S = 10.0  # from accepting a connection to the client's greeting
ACCEPT_PAUSE_S = 0.1  # before the next accept, after one failed for lack of descriptors
# Interval of the check that the socket file still exists. A client's patience is 10 s by default,
# so calls survive the loss of the file.
SOCKET_CHECK_S = 1.0

_log = logging.getLogger("devnest.pool")


class PoolServer:
    """A `Pool` for all processes of this user that connect to its socket.

    Use it as an asynchronous context manager.

    Args:
        path: The path of the socket, at most 103 bytes. Its directory must be closed to other
            users; it is created if it is missing.
        allow: The functions that clients may call, as `"package.module"` or
            `"package.module:function"`; `None` for every importable function. This prevents
            mistakes but not attacks: arguments are pickles, and every client runs as this user.
        max_frame_bytes: The largest frame accepted from a client. On Linux large payloads do not
            count: they are in memory files beside the frame.
        **options: The options of `Pool`, except that `kind` must be `"process"`, and that `context`
            is an option of the clients.

    Raises:
        InvalidTask: An option is out of its range, or options contradict each other.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        allow: Collection[str] | None = None,
        max_frame_bytes: int = 64 * 1024 * 1024,
        **options: Any,
    ) -> None:
        if options.get("kind", "process") != "process":
            raise InvalidTask("a shared pool runs processes")
        if "context" in options:
            raise InvalidTask("context is an option of the clients of a shared pool")
        if not (isinstance(max_frame_bytes, int) and 0 < max_frame_bytes <= MAX_FRAME_BYTES):
            raise InvalidTask(f"max_frame_bytes must be a whole number from 1 to {MAX_FRAME_BYTES}")
        self._path = Path(path).absolute()
        self._allow = None if allow is None else frozenset(allow)
        self._max_frame_bytes = max_frame_bytes
        self._pool = Pool(**options)
        self._listener: socket.socket | None = None
        self._clients: dict[int, _Client] = {}
        self._ids = itertools.count(1)  # 0 stands for calls of the server's own process
        self._last_left_at = time.monotonic()
        self._inode = 0
        self._check_timer: asyncio.TimerHandle | None = None
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<PoolServer {self._path} clients={len(self._clients)} {self._pool!r}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(force=kind is not None)

    @property
    def url(self) -> str:
        """The address for `Pool.connect`."""
        return f"unix://{self._path}"

    @property
    def unused_s(self) -> float:
        """Seconds for which no client has been connected; 0 while one is."""
        return 0.0 if self._clients else time.monotonic() - self._last_left_at

    async def start(self) -> None:
        """Bind the socket, start the pool, and accept clients; `async with` does the same.

        Raises:
            OSError: The socket cannot be made: another server answers at its path, or its directory
                belongs to another user or is open to others.
            InvalidTask: The path is too long.
            PoolClosed: The server was closed before.
        """
        self._bind()
        try:
            await self._pool.start()
        except BaseException:
            self._stop_listening()
            await self._pool.close(force=True)
            raise
        self._listen()
        self._schedule_socket_check()

    async def close(self, *, force: bool = False, deadline: float | None = None) -> None:
        """Remove the socket file, accept no more clients, and close the pool as `Pool.close` does.

        Args:
            force: As for `Pool.close`.
            deadline: As for `Pool.close`.
        """
        self._stop_listening()
        try:
            await self._pool.close(force=force, deadline=deadline)
        finally:
            for client in list(self._clients.values()):
                client.close()
            self._clients.clear()

    def stats(self) -> Stats:
        """Return the statistics of the pool.

        Raises:
            PoolClosed: The server was not started.
        """
        return self._pool.stats()

    def _bind(self) -> None:
        self._listener = bind(self._path)
        self._listener.setblocking(False)
        self._inode = self._path.stat().st_ino

    def _schedule_socket_check(self) -> None:
        self._check_timer = asyncio.get_running_loop().call_later(
            SOCKET_CHECK_S, self._check_socket_file
        )

    def _check_socket_file(self) -> None:
        """Make the socket file again if something, such as a clean-up job, has removed it."""
        self._schedule_socket_check()
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(self._path.stat().st_mode):  # of this server or its successor
                return
        old, self._listener = self._listener, None
        if old is not None:  # without its file it can get no more clients
            asyncio.get_running_loop().remove_reader(old.fileno())
            old.close()
        try:
            self._bind()
        except OSError as error:
            if not self._has_warned:
                _log.warning("the socket's file has gone, and cannot be made again: %s", error)
            self._has_warned = True
            return
        self._has_warned = False
        self._listen()
        _log.warning("the socket's file had gone, and was made again: %s", self._path)

    def _stop_listening(self) -> None:
        if self._check_timer is not None:
            self._check_timer.cancel()
        if self._listener is None:
            return
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:  # else it is a successor's
                self._path.unlink()
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()
        self._listener = None

    def _listen(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # out of descriptors: pause, or the loop would spin on this client
            _log.warning("cannot accept a client: %s", error)
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener.fileno())
            loop.call_later(ACCEPT_PAUSE_S, self._listen)
            return
        if len(self._clients) >= MAX_CLIENTS or not is_same_user(sock):
            _log.warning(
                "refused a client: it belongs to another user, or %d are connected", MAX_CLIENTS
            )
            sock.close()
            return
        client_id = next(self._ids)
        self._clients[client_id] = _Client(self, client_id, sock)

    # For connections.

    def engine(self) -> Engine:
        """Return the running engine."""
        return self._pool.engine()

    def check_allowed(self, name: str) -> None:
        """Raise `InvalidTask` if clients may not call the function."""
        module = name.partition(":")[0]
        if module in ("__main__", "__pool_main__"):
            raise InvalidTask(
                "a shared pool cannot import from a client's main script; "
                "put the function in a module"
            )
        if self._allow is not None and name not in self._allow and module not in self._allow:
            raise InvalidTask(f"this pool does not run {name}")

    def warm(self, name: str) -> None:
        """Let future workers import a function that has worked."""
        self._pool.warm(name)

    def forget(self, client_id: int) -> None:
        """Remove a client that has gone."""
        self._clients.pop(client_id, None)
        self._last_left_at = time.monotonic()


class _Client:
    """One connection: its tasks by request id, each of which is answered once."""

    def __init__(self, server: PoolServer, client_id: int, sock: socket.socket) -> None:
        self._server = server
        self._id = client_id
        self._tasks: dict[int, Task] = {}
        self._has_greeted = False
        loop = asyncio.get_running_loop()
        self._channel = Channel(
            loop, sock, self._received, self._lost, max_frame_bytes=server._max_frame_bytes
        )
        self._greeting = loop.call_later(HELLO_TIMEOUT_S, self._drop, "it sent no greeting")
        self._channel.send(write_greeting(server._max_frame_bytes))

    def close(self) -> None:
        self._greeting.cancel()
        self._channel.flush()
        self._channel.close()

    def _received(self, received: Frame) -> None:
        if received.kind == Kind.HELLO and not self._has_greeted:
            if received.id != VERSION:
                raise WireError(
                    f"the client speaks version {received.id}, this is version {VERSION}"
                )
            self._has_greeted = True
            self._greeting.cancel()
        elif not self._has_greeted:
            raise WireError("the first frame was no greeting")
        elif received.kind == Kind.SUBMIT:
            self._submit(received)
        elif received.kind == Kind.CANCEL:
            self._cancel(received.id)
        elif received.kind == Kind.STATS:
            content = json.dumps(self._server.stats().as_dict()).encode()
            self._send(received.id, (OK, Packed(content)))
        else:
            raise WireError(f"a client does not send frames of kind {received.kind}")

    def _submit(self, received: Frame) -> None:
        if received.id in self._tasks:
            raise WireError("a request id was used twice")
        call = read_submission(received)
        task = Task(
            call.function,
            call.payload,
            # Not a closure, which would keep the received frame alive until the answer.
            functools.partial(self._answer, received.id),
            priority=call.priority,
            key=call.key,
            source=self._id,
            timeout_s=call.timeout_s,
            deadline_at=time.monotonic() + call.deadline_s,
        )
        try:
            check_options(call.timeout_s, call.priority, call.key)
            self._server.check_allowed(call.function.name)
            self._server.engine().submit(task)
        except PoolClosed:
            self._send(received.id, Deferred())
        except PoolError as error:
            self._send(received.id, error)
        else:
            self._tasks[received.id] = task

    def _cancel(self, request_id: int) -> None:
        task = self._tasks.pop(request_id, None)
        if task is not None:  # otherwise its answer is on the way, and the client ignores it
            self._server.engine().cancel(task)
            self._send(request_id, None)

    def _answer(self, request_id: int, answer: object) -> None:
        task = self._tasks.pop(request_id, None)
        if task is None:  # the client went earlier in this event loop iteration
            return
        if isinstance(answer, tuple) and answer[0] == OK:
            self._server.warm(task.function.name)
        wait_s = task.sent_at - task.enqueued_at
        self._send(request_id, answer, wait_s, time.monotonic() - task.sent_at)

    def _send(
        self, request_id: int, answer: object, wait_s: float = 0.0, run_s: float = 0.0
    ) -> None:
        self._channel.send(*write_reply(request_id, answer, wait_s, run_s))
        if self._channel.unsent_bytes > MAX_UNREAD_BYTES:
            self._drop("it does not read its replies")

    def _drop(self, reason: str) -> None:
        self._channel.close()
        self._lost(reason, False)

    def _lost(self, reason: str, _unread: bool) -> None:
        if reason != "closed by the other side":
            _log.warning("client %d of the pool is gone: %s", self._id, reason)
        self._greeting.cancel()
        self._server.forget(self._id)
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            self._server.engine().orphan(task)
