"""The frames between a pool and its workers, and between a pool server and its clients.

A frame is a header (body size, kind, number of descriptors, id) and a body. Numbers are
little-endian. Only the payloads in a body are pickled, so the pool server can read frames without
loading a pickle.
"""

import enum
import functools
import math
import socket
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from devnest.pool.functions import MAX_BATCH, Function
from devnest.pool.wire.payload import Packed, Segment

__all__ = [
    "FAILED",
    "MAX_DESCRIPTORS",
    "MAX_FRAME_BYTES",
    "OK",
    "SKIPPED",
    "VERSION",
    "Batch",
    "Frame",
    "FrameReader",
    "Kind",
    "Submission",
    "WireError",
    "frame",
    "read_batch",
    "read_greeting",
    "read_items",
    "read_submission",
    "receive",
    "write_batch",
    "write_greeting",
    "write_items",
    "write_submission",
]

VERSION = 4
# Also bounds a receiver's buffer. On Linux large payloads are in memory files, so frames are far
# smaller.
MAX_FRAME_BYTES = 1 << 30
MAX_DESCRIPTORS = 253  # the most that Linux sends with one message (SCM_MAX_FD)

# Tags of an answer: a result; an exception with its traceback's text; nothing, as the call was not
# run.
OK, FAILED, SKIPPED = 0, 1, 9

MAX_RECEIVE_BYTES = 64 * 1024  # bytes that one system call reads
_DESCRIPTOR_SPACE = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
# Only Linux passes descriptors here. This flag keeps them from processes that a task starts.
_CLOSE_ON_EXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
# As an integer: the operators of the enumeration take longer than the system call.
_TRUNCATED = int(socket.MSG_CTRUNC)

_HEADER = struct.Struct("<IBBQ")
_ITEM = struct.Struct("<BIB")  # tag, size, whether it has a descriptor
_GREETING = struct.Struct("<I")
_SUBMISSION = struct.Struct("<bBHddHH")


class WireError(Exception):
    """The other side violated the protocol."""


class Kind(enum.IntEnum):
    """The kind of a frame."""

    BOOT = 1  # pool → worker: import path, main script, nice value
    READY = 2  # worker → pool
    BATCH = 3  # pool → worker
    DONE = 4  # worker → pool
    HELLO = 5  # client ↔ server: protocol version; from the server also the largest accepted body
    SUBMIT = 6  # client → server
    CANCEL = 7  # client → server
    STATS = 8  # client → server
    REPLY = 9  # server → client: exactly one for each SUBMIT and STATS


_KINDS = frozenset(Kind)


class Frame(NamedTuple):
    """A received frame."""

    kind: int
    id: int
    body: bytes
    segments: list[Segment]


def frame(kind: Kind, frame_id: int, body: bytes = b"", descriptors: int = 0) -> bytes:
    """Return the bytes of a frame."""
    return _HEADER.pack(len(body), kind, descriptors, frame_id) + body


class FrameReader:
    """Splits a stream of bytes and descriptors into frames."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._segments: deque[Segment] = deque()

    def feed(self, data: bytes, segments: Iterable[Segment] = ()) -> list[Frame]:
        """Return the frames that these bytes complete; raises `WireError` for anything else."""
        self._segments.extend(segments)
        if self._buffer:
            self._buffer += data
            source: bytes | bytearray = self._buffer
        else:
            source = data
        frames, at = [], 0
        while len(source) - at >= _HEADER.size:
            size, kind, descriptors, frame_id = _HEADER.unpack_from(source, at)
            if kind not in _KINDS or size > self._max_bytes or descriptors > MAX_BATCH:
                raise WireError(
                    f"not a frame: kind {kind}, {size} bytes, {descriptors} descriptors"
                )
            start, end = at + _HEADER.size, at + _HEADER.size + size
            if end > len(source):
                break
            if descriptors > len(self._segments):
                raise WireError("a frame came without its descriptors")
            own = [self._segments.popleft() for _ in range(descriptors)]
            frames.append(Frame(kind, frame_id, bytes(source[start:end]), own))
            at = end
        if source is data:
            if at < len(data):
                self._buffer += data[at:]
        else:
            del self._buffer[:at]
        # Descriptors arrive with the first byte of their frame or later, so only an unfinished
        # frame can own the remaining ones.
        if len(self._segments) > (MAX_DESCRIPTORS if self._buffer else 0):
            raise WireError("descriptors came that belong to no frame")
        return frames


def write_items(items: Sequence[tuple[int, Packed]]) -> tuple[bytes, list[Segment]]:
    """Return tagged payloads as the end of a body, with their descriptors."""
    pieces: list[bytes] = []
    segments: list[Segment] = []
    for tag, (data, segment) in items:
        pieces += (_ITEM.pack(tag, len(data), segment is not None), data)
        if segment is not None:
            segments.append(segment)
    return b"".join(pieces), segments


def read_items(body: bytes, at: int, segments: Sequence[Segment]) -> list[tuple[int, Packed]]:
    """Return the tagged payloads of a body from offset `at` to its end."""
    items = []
    remaining = iter(segments)
    try:
        while at < len(body):
            tag, size, has_segment = _ITEM.unpack_from(body, at)
            at += _ITEM.size
            if at + size > len(body):
                raise WireError("a payload is cut short")
            items.append(
                (tag, Packed(body[at : at + size], next(remaining) if has_segment else None))
            )
            at += size
    except (struct.error, StopIteration) as error:
        raise WireError("a body is cut short") from error
    return items


def write_batch(
    batch_id: int, function: Function, payloads: Sequence[Packed], *, max_rss: bool
) -> tuple[bytes, list[Segment]]:
    """Return a BATCH frame: the function and the arguments of each call."""
    items, segments = write_items([(0, payload) for payload in payloads])
    return frame(
        Kind.BATCH, batch_id, _batch_head(function, max_rss) + items, len(segments)
    ), segments


@functools.lru_cache(maxsize=1024)
def _batch_head(function: Function, max_rss: bool) -> bytes:
    name = function.name.encode()
    flags = (function.max_size > 0) | function.pure << 1 | max_rss << 2
    return struct.pack("<BH", flags, len(name)) + name


class Batch(NamedTuple):
    """The content of a BATCH frame."""

    name: str
    is_batched: bool
    is_pure: bool
    reports_rss: bool
    payloads: list[Packed]


def read_batch(received: Frame) -> Batch:
    """Return the content of a BATCH frame."""
    flags, length = struct.unpack_from("<BH", received.body)
    name = received.body[3 : 3 + length].decode()
    items = read_items(received.body, 3 + length, received.segments)
    return Batch(
        name, bool(flags & 1), bool(flags & 2), bool(flags & 4), [payload for _, payload in items]
    )


def write_greeting(max_frame_bytes: int) -> bytes:
    """Return a server's HELLO frame."""
    return frame(Kind.HELLO, VERSION, _GREETING.pack(max_frame_bytes))


def read_greeting(received: Frame) -> int:
    """Return the size of the largest frame that the server accepts, in bytes with its header."""
    if received.id != VERSION:
        raise WireError(f"the server speaks version {received.id}, this is version {VERSION}")
    if len(received.body) != _GREETING.size:
        raise WireError("the server did not say how large a frame it takes")
    return _HEADER.size + int(_GREETING.unpack(received.body)[0])


class Submission(NamedTuple):
    """A call that a client submits to a shared pool; times in seconds, infinity for none."""

    function: Function
    payload: Packed
    priority: int
    key: str
    timeout_s: float
    deadline_s: float


def write_submission(request_id: int, call: Submission) -> tuple[bytes, list[Segment]]:
    """Return a SUBMIT frame."""
    function, payload = call.function, call.payload
    name, key = function.name.encode(), call.key.encode()
    if len(name) > 0xFFFF or len(key) > 0xFFFF:
        raise ValueError("the function's name or the key is too long")
    segments = [payload.segment] if payload.segment is not None else []
    head = _SUBMISSION.pack(
        call.priority,
        function.pure,
        function.max_size,
        call.timeout_s,
        call.deadline_s,
        len(key),
        len(name),
    )
    return frame(Kind.SUBMIT, request_id, head + key + name + payload.data, len(segments)), segments


def read_submission(received: Frame) -> Submission:
    """Return the content of a SUBMIT frame, or raise `WireError`."""
    try:
        values = _SUBMISSION.unpack_from(received.body)
        priority, is_pure, max_size, timeout_s, deadline_s, key_length, name_length = values
        key_end = _SUBMISSION.size + key_length
        name_end = key_end + name_length
        key = received.body[_SUBMISSION.size : key_end].decode()
        name = received.body[key_end:name_end].decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise WireError("not a submission") from error
    if (
        name_end > len(received.body)
        or math.isnan(timeout_s)
        or math.isnan(deadline_s)
        or max_size > MAX_BATCH
    ):
        raise WireError("not a submission")
    segment = received.segments[0] if received.segments else None
    payload = Packed(received.body[name_end:], segment)
    return Submission(
        Function(name, max_size, bool(is_pure)), payload, priority, key, timeout_s, deadline_s
    )


def receive(sock: socket.socket) -> tuple[bytes, list[Segment], bool]:
    """Read what has arrived: bytes, descriptors, and whether descriptors were lost."""
    data, ancillary, result, _ = sock.recvmsg(MAX_RECEIVE_BYTES, _DESCRIPTOR_SPACE, _CLOSE_ON_EXEC)
    segments: list[Segment] = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            whole = memoryview(content)[: len(content) - len(content) % 4].cast("i")
            segments += [Segment(fd) for fd in whole]
    return data, segments, bool(result & _TRUNCATED)
