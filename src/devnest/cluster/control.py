"""The socket between the supervisor and each of its children.

The supervisor sends the child its settings as one line of JSON. The child answers with one line:
it is ready, or it failed, with an exit status and a reason. After that its event loop sends one
byte, the heartbeat, every two seconds; a child whose event loop hangs sends none. When the
supervisor dies, its end of the socket closes, and the child ends itself.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

__all__ = ["MAX_LINE_BYTES", "Control", "Report"]

# Bounds one message in either direction: a reader takes at most this much at once.
MAX_LINE_BYTES = 64 * 1024
# Between two heartbeats. `devnest.cluster.child` kills a child after 60 s without one.
HEARTBEAT_INTERVAL_S = 2.0
T = TypeVar("T")


class Report(msgspec.Struct, frozen=True):
    """The one line that a child sends about its start.

    Attributes:
        status: None if the child is ready, else the exit status it fails with.
        reason: Why it fails.
        transient: Whether another try may succeed, as when the database is not reachable.
    """

    status: int | None = None
    reason: str = ""
    transient: bool = False


class Control:
    """A child's end of the socket.

    Args:
        fd: The socket's file descriptor, which this object owns from now on.
    """

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._socket = socket.socket(fileno=fd)

    def settings(self, of: type[T]) -> T:
        """Block until the settings have arrived, and decode them.

        Ends this process if the supervisor has died.

        Args:
            of: The settings' type.
        """
        line = b""
        while not line.endswith(b"\n"):
            received = self._socket.recv(MAX_LINE_BYTES)
            if not received:
                sys.exit(0)
            line += received
        return msgspec.json.decode(line, type=of)

    def ready(self) -> None:
        """Report that this child is ready, and send heartbeats from now on.

        Needs a running event loop.
        """
        self._report(Report())
        self._send_heartbeat()

    def failed(self, status: int, reason: str, *, transient: bool = False) -> None:
        """Report that this child cannot work.

        Args:
            status: The exit status for `devnest serve`.
            reason: Why, in words for the operator.
            transient: Whether another try may succeed.
        """
        self._report(Report(status, reason, transient))

    def _report(self, report: Report) -> None:
        with suppress(OSError):  # the supervisor has died; `watch` handles that
            self._socket.sendall(msgspec.json.encode(report) + b"\n")

    def _send_heartbeat(self) -> None:
        with suppress(OSError):  # the socket is full of heartbeats that the supervisor has not read
            self._socket.send(b".")
        asyncio.get_running_loop().call_later(HEARTBEAT_INTERVAL_S, self._send_heartbeat)

    def watch(self, stop: Callable[[], Any], stop_now: Callable[[], Any] | None = None) -> None:
        """Handle the supervisor's signals and its death. Needs a running event loop.

        When the supervisor dies, this process ends immediately: nothing would restart or stop it,
        and the other processes end too.

        Args:
            stop: Called at SIGTERM: drain and end.
            stop_now: Called at SIGUSR1: end without draining. Without it SIGUSR1 ends this process.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop)
        if stop_now is not None:
            loop.add_signal_handler(signal.SIGUSR1, stop_now)
        self._socket.setblocking(False)

        def receive() -> None:
            try:
                received = self._socket.recv(1)
            except BlockingIOError:
                return
            except OSError:  # it died with a heartbeat unread
                received = b""
            if not received:
                os._exit(0)

        loop.add_reader(self._socket, receive)
