"""The socket between the supervisor and each of its children.

The supervisor writes the child's settings, one line of JSON, as soon as it knows them. The child answers `ready`, or
`failed` with an exit status and a reason. After that its event loop sends a byte every other second; a child whose loop
hangs is silent. The end of the line tells the child that the supervisor has died.
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

MAX_LINE_BYTES = 64 * 1024
BEAT_S = 2.0
T = TypeVar("T")


class Report(msgspec.Struct, frozen=True):
    """What a child says once: `status` None is "ready", a number is the exit status it fails with."""

    status: int | None = None
    reason: str = ""
    passing: bool = False  # it will pass by itself: the database is away


class Control:
    """A child's end."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._socket = socket.socket(fileno=fd)

    def settings(self, of: type[T]) -> T:
        """Wait for the settings; ends the process where the supervisor has gone."""
        line = b""
        while not line.endswith(b"\n"):
            received = self._socket.recv(MAX_LINE_BYTES)
            if not received:
                sys.exit(0)
            line += received
        return msgspec.json.decode(line, type=of)

    def ready(self) -> None:
        """On a running event loop: say that work can come, and from now on that the loop turns."""
        self._report(Report())
        self._beat()

    def failed(self, status: int, reason: str, *, passing: bool = False) -> None:
        """Say why there will be no work."""
        self._report(Report(status, reason, passing))

    def _report(self, report: Report) -> None:
        with suppress(OSError):  # the supervisor has gone, which `watch` sees
            self._socket.sendall(msgspec.json.encode(report) + b"\n")

    def _beat(self) -> None:
        with suppress(OSError):  # a supervisor that reads nothing for long finds enough of them
            self._socket.send(b".")
        asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def watch(self, stop: Callable[[], Any], insist: Callable[[], Any] | None = None) -> None:
        """On a running event loop: call `stop` at SIGTERM, and `insist` at SIGUSR1, which else ends this process.

        When the supervisor has gone the process ends at once: nobody is left to answer for it, and its parts have none
        to work with.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop)
        if insist is not None:
            loop.add_signal_handler(signal.SIGUSR1, insist)
        self._socket.setblocking(False)

        def look() -> None:
            try:
                told = self._socket.recv(1)
            except BlockingIOError:
                return
            except OSError:  # it died with a beat unread
                told = b""
            if not told:
                os._exit(0)

        loop.add_reader(self._socket, look)
