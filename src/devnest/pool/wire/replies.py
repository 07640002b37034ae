"""Replies of a pool server to its clients: encoding and decoding."""

import struct
from collections.abc import Callable

from devnest.pool.errors import (
    DeadlineExceeded,
    InvalidTask,
    PoolClosed,
    PoolError,
    PoolFull,
    TaskTimeout,
    WorkerCrashed,
)
from devnest.pool.wire.payload import Packed, Segment
from devnest.pool.wire.protocol import FAILED, OK, Frame, Kind, WireError, frame

__all__ = ["CANCELLED", "NOT_RUN", "Deferred", "read_reply", "read_times", "write_reply"]

NOT_RUN = 9  # the server is closing, and has not begun the call
CANCELLED = 2  # after OK and FAILED, the worker's tags, which a reply passes on unchanged
_FULL = 3
_ERRORS: dict[int, Callable[[str], PoolError]] = {
    4: TaskTimeout,
    5: DeadlineExceeded,
    6: WorkerCrashed,
    7: PoolClosed,
    8: InvalidTask,
}
_CODES = {error: code for code, error in _ERRORS.items()}
_RETRY_AFTER = struct.Struct("<d")
_TIMES = struct.Struct("<ff")  # of a worker's answer: seconds in the queue, seconds in the worker
_ANSWER_AT = 1 + _TIMES.size


class Deferred:
    """The answer to a call that a closing server has not begun; another server may run it."""


def write_reply(
    request_id: int, answer: object, wait_s: float = 0.0, run_s: float = 0.0
) -> tuple[bytes, list[Segment]]:
    """Return a REPLY frame.

    Args:
        request_id: The id of the call.
        answer: A worker's answer, a pool's error, `Deferred`, or `None` for a cancelled call.
        wait_s: For a worker's answer, how long the call waited in the queue.
        run_s: For a worker's answer, how long the worker had the call, with those of its batch.

    Returns:
        The frame, and the memory files that are sent beside it.
    """
    if answer is None:
        return frame(Kind.REPLY, request_id, bytes([CANCELLED])), []
    if isinstance(answer, Deferred):
        return frame(Kind.REPLY, request_id, bytes([NOT_RUN])), []
    if isinstance(answer, PoolFull):
        body = bytes([_FULL]) + _RETRY_AFTER.pack(answer.retry_after) + answer.reason.encode()
        return frame(Kind.REPLY, request_id, body), []
    if isinstance(answer, PoolError):
        return frame(
            Kind.REPLY, request_id, bytes([_CODES[type(answer)]]) + str(answer).encode()
        ), []
    assert isinstance(answer, tuple)
    tag, packed = answer
    segments = [packed.segment] if packed.segment is not None else []
    body = bytes([tag]) + _TIMES.pack(wait_s, run_s) + packed.data
    return frame(Kind.REPLY, request_id, body, len(segments)), segments


def read_reply(received: Frame) -> object:
    """Return the answer that `write_reply` encoded, or raise `WireError`."""
    try:
        tag = received.body[0]
        if tag in (OK, FAILED):
            if len(received.body) < _ANSWER_AT:
                raise WireError("an answer without its times")
            segment = received.segments[0] if received.segments else None
            return tag, Packed(received.body[_ANSWER_AT:], segment)
        if tag == CANCELLED:
            return None
        if tag == NOT_RUN:
            return Deferred()
        if tag == _FULL:
            (retry_after,) = _RETRY_AFTER.unpack_from(received.body, 1)
            return PoolFull(retry_after, received.body[1 + _RETRY_AFTER.size :].decode())
        return _ERRORS[tag](received.body[1:].decode())
    except (IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
        raise WireError("not a reply") from error


def read_times(received: Frame) -> tuple[float, float]:
    """Return `wait_s` and `run_s` of a worker's answer that `read_reply` has read."""
    wait_s, run_s = _TIMES.unpack_from(received.body, 1)
    return wait_s, run_s
