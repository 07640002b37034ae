"""What a worker writes to standard output and error, as lines of a log of bounded size.

The pool always reads what a worker writes, so no worker waits for the log. Beyond the limits the
text is dropped and the dropped lines are counted.
"""

import asyncio
import logging
import os
import time

__all__ = ["MAX_LINES_PER_S", "MAX_LINE_BYTES", "Output"]

_log = logging.getLogger("devnest.pool.worker")

MAX_LINE_BYTES = 2000  # of a line; the rest of it is dropped
MAX_LINES_PER_S = 100  # of one worker; a loop that prints must not fill a disk or the event loop
READ_BYTES = 65536  # the usual size of a pipe
MAX_LAST_READS = 32  # at the worker's end: a process that it left behind could write for ever


class Output:
    """The parent's ends of two pipes, one for standard output and one for standard error.

    Args:
        loop: The event loop that reads them.
        worker_id: The worker, as the lines name it.

    Attributes:
        fds: The worker's ends, for its standard output and error.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, worker_id: int) -> None:
        self._loop = loop
        self._worker_id = worker_id
        self._second = 0
        self._lines = self._dropped = 0  # in this second, and since the last line
        out, out_end = os.pipe()
        try:
            err, err_end = os.pipe()
        except OSError:
            os.close(out)
            os.close(out_end)
            raise
        self.fds = out_end, err_end
        self._streams = [_Stream(out, logging.INFO), _Stream(err, logging.WARNING)]

    def start(self) -> None:
        """Close the worker's ends, which the worker has now, and read from the others."""
        self._close_ends()
        for stream in self._streams:
            os.set_blocking(stream.fd, False)
            self._loop.add_reader(stream.fd, self._read, stream)

    def abandon(self) -> None:
        """Close everything: the worker could not be started."""
        self._close_ends()
        for stream in self._streams:
            os.close(stream.fd)
        self._streams = []

    def close(self) -> None:
        """Log what is left and close the pipes: the worker has ended."""
        for stream in list(self._streams):
            for _ in range(MAX_LAST_READS):
                if not self._read(stream):
                    break
            if stream in self._streams:
                self._end(stream)
        self._report_dropped()

    def _close_ends(self) -> None:
        for fd in self.fds:
            os.close(fd)

    def _read(self, stream: "_Stream") -> bool:
        """Read once; return whether there may be more."""
        try:
            data = os.read(stream.fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._end(stream)
            return False
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            if not self._may_log():
                self._dropped += data.count(b"\n", start)
                start = data.rfind(b"\n") + 1
                stream.line.clear()
                break
            stream.add(data[start:end])
            self._write(stream)
            start = end + 1
        stream.add(data[start:])
        return True

    def _end(self, stream: "_Stream") -> None:
        self._loop.remove_reader(stream.fd)
        os.close(stream.fd)
        self._streams.remove(stream)
        if stream.line:
            if self._may_log():
                self._write(stream)
            else:
                self._dropped += 1

    def _may_log(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        return self._lines < MAX_LINES_PER_S

    def _write(self, stream: "_Stream") -> None:
        self._lines += 1
        self._report_dropped()
        _log.log(stream.level, "worker %d: %s", self._worker_id, stream.take())

    def _report_dropped(self) -> None:
        if self._dropped:
            _log.warning("worker %d: %d lines were dropped", self._worker_id, self._dropped)
            self._dropped = 0


class _Stream:
    """One of the pipes, and the start of the line that is being read."""

    def __init__(self, fd: int, level: int) -> None:
        self.fd = fd
        self.level = level
        self.line = bytearray()

    def add(self, data: bytes) -> None:
        """Add to the line, up to one byte more than is logged of it."""
        self.line += data[: MAX_LINE_BYTES + 1 - len(self.line)]

    def take(self) -> str:
        """Return the line with everything escaped that is not printable, and begin the next."""
        is_long = len(self.line) > MAX_LINE_BYTES
        text = self.line[:MAX_LINE_BYTES].decode(errors="backslashreplace").removesuffix("\r")
        self.line.clear()
        if not text.isprintable():
            text = "".join(
                c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode()
                for c in text
            )
        return f"{text}…" if is_long else text
