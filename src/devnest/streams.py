"""Standard streams whose writers never block and never fail.

A command may be started with closed or full streams: `open_standard_streams` makes them safe to
use. In a service a thread writes the streams: `move_to_background`.

A write blocks while nobody reads the pipe, the terminal is stopped or the file system hangs. It
raises when the reader has gone or the disk is full. `O_NONBLOCK` does not help, because it belongs
to the open file and not to the descriptor: every process with the same pipe or terminal would get
it.
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

# Memory that one stream may use while its reader does not read: some 15,000 lines of the request
# log. The thread may hold as many again that it has taken from the buffer.
MAX_BUFFERED_BYTES = 4 * 1024 * 1024
WRITE_INTERVAL_S = 0.01  # the thread wakes at most 100 times a second, however many lines come
MAX_CLOSE_S = 2.0  # how long the end of the process waits for the last lines to be written
# one wait for a descriptor that another process made non-blocking; then a write is tried
POLL_MS = 1000


class BackgroundStream(io.TextIOBase):
    """A text stream that a thread writes to a descriptor.

    `write` never waits and never raises. Lines that do not fit into `MAX_BUFFERED_BYTES`, or whose
    write fails, are dropped and counted.

    Args:
        fd: The descriptor.
        encoding: Characters that it cannot express become backslash escapes.

    Attributes:
        on_dropped: Called by the thread with the number of newly dropped lines, once writing works
            again.
        dropped: The number of dropped writes, which are lines if each line is written at once.
    """

    def __init__(self, fd: int, encoding: str = "utf-8") -> None:
        self.on_dropped: Callable[[int], None] = lambda lines: None
        self.dropped = 0
        self._fd = fd
        self._encoding = encoding
        self._reported = 0  # of the dropped lines; only the thread uses it
        self._is_mid_line = False  # the last line was written in part; only the thread uses it
        self._lock = threading.RLock()  # reentrant: a finalizer that runs inside `put` may log
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._woken = threading.Lock()  # locked unless the thread has something to do
        self._woken.acquire()
        self._is_woken = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding; characters that it cannot express become backslash escapes."""
        return self._encoding

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Return whether the descriptor is a terminal."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Queue a text for the thread. It never waits and never raises."""
        self.put(text.encode(self._encoding, "backslashreplace"))
        return len(text)

    def put(self, line: bytes) -> None:
        """Queue the bytes of a whole line for the thread."""
        with self._lock:
            is_full = self._waiting_bytes + len(line) > MAX_BUFFERED_BYTES
            # The thread itself may always write: it reports the dropped lines.
            if is_full and threading.current_thread() is not self._thread:
                self.dropped += 1
                return
            self._waiting.append(line)
            self._waiting_bytes += len(line)
            if not self._is_woken:
                self._wake()

    def close_soon(self) -> None:
        """Write the queued lines within `MAX_CLOSE_S`, and end the thread."""
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
            except RuntimeError:  # no thread can be started now; the next write tries again
                self.dropped += len(self._waiting)
                self._waiting, self._waiting_bytes, self._is_woken = [], 0, False
                return
            self._thread = thread
        self._woken.release()

    def _serve(self) -> None:
        # A background process that writes to its terminal gets SIGTTOU, unless the signal is
        # blocked.
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
        """Write the lines and return how many were lost.

        Lines are joined up to `PIPE_BUF` bytes, which a pipe takes without other writers' data
        between.
        """
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
    """A descriptor to which every write succeeds.

    Attributes:
        error: The first error of a write, or None. What could not be written counts as written.
    """

    def __init__(self, fd: int) -> None:
        self.error: OSError | None = None
        self._fd = fd

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Return whether the descriptor is a terminal."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: "Buffer") -> int:
        """Write some of the data. If that fails, count all of it as written."""
        view = memoryview(data)
        try:
            return _write_some(self._fd, view)
        except OSError as error:
            self.error = self.error or error
            return view.nbytes


def open_standard_streams() -> StandardOutput:
    """Replace closed standard streams by `/dev/null`, and let writes to the others never raise.

    Without it, the next file or socket that is opened would take the number of a closed stream, and
    a `print` would write into it.

    Returns:
        The standard output, whose `error` says whether anything was lost.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # open() returns the lowest free number, which is `fd`.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 (a descriptor)
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Otherwise a password that is not valid text would be read with surrogate characters.
        sys.stdin.reconfigure(errors="strict")
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
    """Write some of the data. If the descriptor is non-blocking, wait until it can be written."""
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll(POLL_MS)


def move_to_background() -> None:
    """Let threads write standard output and standard error until the process ends."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        # Python sets `sys.stdout` to None if its descriptor was closed.
        encoding = getattr(getattr(sys, name), "encoding", None)
        stream = BackgroundStream(fd, encoding or "utf-8")
        atexit.register(stream.close_soon)
        setattr(sys, name, stream)


def dropped_lines() -> int:
    """Return how many log lines of this process were dropped; 0 without a background stream."""
    return sys.stderr.dropped if isinstance(sys.stderr, BackgroundStream) else 0
