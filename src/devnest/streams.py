"""Standard streams that stop nobody: a command's may be closed or full, a service's are written by a thread.

A pipe that nobody reads, a terminal that is stopped and a file system that hangs block whoever writes; a reader that
has gone and a full disk raise. `O_NONBLOCK` is no way out: it belongs to the open file and not to the descriptor, so it
would be set for every process that has the same pipe or terminal.
"""

import atexit
import io
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "BackgroundStream",
    "StandardOutput",
    "dropped_lines",
    "move_to_background",
    "open_standard_streams",
]

# What a reader that stands still costs a process in memory: some 15,000 lines of requests, and once more as many that
# the thread has taken over.
MAX_BUFFERED_BYTES = 4 * 1024 * 1024
WRITE_INTERVAL_S = 0.01  # the thread wakes at most 100 times a second, however many lines come
MAX_CLOSE_S = 2.0  # that the end of the process waits for the rest to be written
POLL_MS = 1000  # a descriptor that another process made non-blocking is waited for in turns of this


class BackgroundStream(io.TextIOBase):
    """Text for a descriptor. `write` never waits and never raises: what finds no room is dropped and counted."""

    def __init__(self, fd: int, encoding: str = "utf-8") -> None:
        self.on_dropped: Callable[[int], None] = lambda lines: (
            None
        )  # called by the thread, once writing works again
        self.dropped = 0  # writes that came to nothing: lines, where each line is written at once
        self._fd = fd
        self._encoding = encoding
        self._reported = 0  # of them
        self._is_mid_line = False  # the descriptor has half a line, whose rest was dropped
        self._lock = threading.RLock()  # reentrant: a finalizer that runs within `put` may log
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._woken = threading.Lock()  # locked unless the thread has something to look at
        self._woken.acquire()
        self._is_woken = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding; what it cannot express becomes a backslash escape."""
        return self._encoding

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Whether it can be written: always."""
        return True

    def write(self, text: str) -> int:
        """Have the text written soon."""
        self.put(text.encode(self._encoding, "backslashreplace"))
        return len(text)

    def put(self, line: bytes) -> None:
        """Have the bytes of a whole line written soon."""
        with self._lock:
            is_full = self._waiting_bytes + len(line) > MAX_BUFFERED_BYTES
            if (
                is_full and threading.current_thread() is not self._thread
            ):  # which tells how much was dropped
                self.dropped += 1
                return
            self._waiting.append(line)
            self._waiting_bytes += len(line)
            if not self._is_woken:
                self._wake()

    def close_soon(self) -> None:
        """Write what waits, for two seconds at most, and then nothing more."""
        with self._lock:
            self._is_closing = True
            if self._thread is None:
                return
            if not self._is_woken:
                self._wake()
        self._thread.join(MAX_CLOSE_S)

    def _wake(self) -> None:
        self._is_woken = True
        if self._thread is None:
            thread = threading.Thread(
                target=self._serve, name=f"descriptor-{self._fd}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no thread to be had; tried again at the next write
                self.dropped += len(self._waiting)
                self._waiting, self._waiting_bytes, self._is_woken = [], 0, False
                return
            self._thread = thread
        self._woken.release()

    def _serve(self) -> None:
        # A background process that writes to its terminal gets SIGTTOU, unless it is blocked.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        is_last = False
        while not is_last:
            self._woken.acquire()
            with self._lock:
                waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
                self._is_woken = False
            lost = self._write_lines(waiting)
            with self._lock:
                self.dropped += lost
                unreported = self.dropped - self._reported
            if unreported and not lost:
                self._reported += unreported
                self.on_dropped(unreported)
            time.sleep(WRITE_INTERVAL_S)
            with self._lock:
                is_last = self._is_closing and not self._waiting

    def _write_lines(self, lines: list[bytes]) -> int:
        """Write them, joined up to what a pipe takes at once without another's lines between; how many were lost."""
        done = 0
        while done < len(lines):
            end, size = done + 1, len(lines[done])
            while end < len(lines) and size + len(lines[end]) <= select.PIPE_BUF:
                size += len(lines[end])
                end += 1
            try:
                self._write_all(b"".join(lines[done:end]))
            except OSError:
                return len(lines) - done
            done = end
        return 0

    def _write_all(self, data: bytes) -> None:
        if self._is_mid_line:
            data = b"\n" + data
        done = 0
        while done < len(data):
            try:
                done += _write_some(self._fd, memoryview(data)[done:])
            except OSError:
                self._is_mid_line = data[done - 1] != ord("\n") if done else self._is_mid_line
                raise
        self._is_mid_line = False


class StandardOutput(io.RawIOBase):
    """A descriptor that takes everything. `error`: why something of it could not be written, the first time."""

    def __init__(self, fd: int) -> None:
        self.error: OSError | None = None
        self._fd = fd

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Whether it can be written: always."""
        return True

    def write(self, data: "Buffer") -> int:
        """Write some of it, or count it as written."""
        view = memoryview(data)
        try:
            return _write_some(self._fd, view)
        except OSError as error:
            self.error = self.error or error
            return view.nbytes


def open_standard_streams() -> StandardOutput:
    """Open `/dev/null` in place of what is closed; let no text and no failure of a write raise. The output is returned.

    Else the next file or socket that is opened would be standard output, and whoever writes would write into it.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(
                os.open(os.devnull, os.O_RDWR), True
            )  # it has the lowest free number: this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 (a descriptor)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(
            errors="strict"
        )  # else a password that is no text would be one of half characters
    output = StandardOutput(1)
    sys.stdout = _text(output, sys.stdout)
    sys.stderr = _text(StandardOutput(2), sys.stderr)
    return output


def _text(raw: StandardOutput, replaced: TextIO | None) -> TextIO:
    encoding = "utf-8" if replaced is None else replaced.encoding
    by_line = raw.fileno() == 2 or raw.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=by_line
    )


def _write_some(fd: int, data: memoryview) -> int:
    """Write; where another process has made the descriptor non-blocking, wait."""
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll(POLL_MS)


def move_to_background() -> None:
    """Have threads write the standard output and error of this process, from now on to its end."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        encoding = getattr(
            getattr(sys, name), "encoding", None
        )  # there is no stream where the descriptor was closed
        stream = BackgroundStream(fd, encoding or "utf-8")
        atexit.register(stream.close_soon)
        setattr(sys, name, stream)


def dropped_lines() -> int:
    """How many lines of this process's log were dropped, where it is written in the background."""
    return sys.stderr.dropped if isinstance(sys.stderr, BackgroundStream) else 0
