"""Sends and receives frames over a non-blocking Unix socket on an event loop.

Small frames that are sent in one event loop iteration leave in one system call.
"""

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from devnest.pool.wire.payload import Segment
from devnest.pool.wire.protocol import MAX_FRAME_BYTES, Frame, FrameReader, WireError, receive

__all__ = ["Channel"]

# Small frames are joined for one system call until they reach this size, which is also what the
# other side reads at once (`protocol.MAX_RECEIVE_BYTES`).
MAX_JOINED_BYTES = 64 * 1024


_Piece = tuple[bytes | memoryview, Sequence[Segment], int]  # last: bytes in the memory files


class Channel:
    """Owns a connected socket.

    `on_lost` is called once with the reason, unless `close` was called before. Its second argument
    is true if the other side certainly did not read something that was sent: the kernel reports
    `ECONNRESET` when the other side closed its socket with unread bytes in it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_frame: Callable[[Frame], None],
        on_lost: Callable[[str, bool], None],
        *,
        max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._reader = FrameReader(max_frame_bytes)
        self._out: deque[_Piece] = deque()
        self._out_bytes = 0
        self._flush_is_due = self._is_blocked = self._is_closed = False
        loop.add_reader(sock.fileno(), self._readable)

    @property
    def is_closed(self) -> bool:
        """Whether either side has closed the connection."""
        return self._is_closed

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the socket has not accepted yet, including those in memory files."""
        return self._out_bytes

    def send(self, data: bytes, segments: Sequence[Segment] = ()) -> None:
        """Queue a frame, to be sent at the end of this event loop iteration or by `flush`."""
        if self._is_closed:
            return
        self._queue(data, segments)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush_due)

    def send_now(self, data: bytes, segments: Sequence[Segment] = ()) -> None:
        """Send a frame at once if the socket accepts it; queue the rest."""
        if self._is_closed:
            return
        if not segments and not self._out:
            with contextlib.suppress(OSError):  # `flush` meets the same error again, and handles it
                if (sent := self._sock.send(data)) == len(data):
                    return
                data = data[sent:]
        self._queue(data, segments)
        self.flush()

    def flush(self) -> None:
        """Send what is queued as far as the socket accepts it; the rest follows when it can."""
        while self._out and not self._is_closed:
            data, segments, file_bytes = self._next_piece()
            try:
                sent = self._write(data, segments)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._lose(f"cannot write: {error}", unread=True)
                return
            self._out_bytes -= sent
            if sent:  # descriptors are sent with the first byte
                self._out_bytes -= file_bytes
                segments, file_bytes = (), 0
            if sent < len(data):
                self._out.appendleft((memoryview(data)[sent:], segments, file_bytes))
                if not self._is_blocked:
                    self._is_blocked = True
                    self._loop.add_writer(self._sock.fileno(), self.flush)
                return
        if self._is_blocked and not self._is_closed:
            self._is_blocked = False
            self._loop.remove_writer(self._sock.fileno())

    def shut_down_sending(self) -> None:
        """Tell the other side that no more data follows."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket; no callback is called afterwards."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._sock.fileno())
        if self._is_blocked:
            self._loop.remove_writer(self._sock.fileno())
        self._out.clear()
        self._sock.close()

    def _queue(self, data: bytes, segments: Sequence[Segment]) -> None:
        file_bytes = sum(os.fstat(segment.fd).st_size for segment in segments)
        self._out.append((data, segments, file_bytes))
        self._out_bytes += len(data) + file_bytes

    def _next_piece(self) -> _Piece:
        data, segments, file_bytes = self._out.popleft()
        if not self._out or len(data) >= MAX_JOINED_BYTES:
            return data, segments, file_bytes
        pieces, size = [data], len(data)
        # Descriptors belong to the first byte of a system call. So no frame with descriptors may
        # follow another frame in it: the kernel may deliver the first frame alone.
        while self._out and size < MAX_JOINED_BYTES and not self._out[0][1]:
            data, _, _ = self._out.popleft()
            pieces.append(data)
            size += len(data)
        return b"".join(pieces), segments, file_bytes

    def _write(self, data: bytes | memoryview, segments: Sequence[Segment]) -> int:
        if segments:
            return socket.send_fds(self._sock, [data], [segment.fd for segment in segments])
        return self._sock.send(data)

    def _flush_due(self) -> None:
        self._flush_is_due = False
        if not self._is_blocked:
            self.flush()

    def _readable(self) -> None:
        try:
            data, segments, truncated = receive(self._sock)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(f"cannot read: {error}", unread=isinstance(error, ConnectionResetError))
            return
        if not data or truncated:
            self._lose(
                "descriptors were lost: too many are open"
                if truncated
                else "closed by the other side"
            )
            return
        try:
            for frame in self._reader.feed(data, segments):
                self._on_frame(frame)
                if self._is_closed:
                    return
        except WireError as error:
            self._lose(str(error))

    def _lose(self, reason: str, *, unread: bool = False) -> None:
        if not self._is_closed:
            unread = unread or bool(self._out)
            self.close()
            self._on_lost(reason, unread)
