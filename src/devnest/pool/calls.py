"""A call before it is sent and after it was answered: its arguments packed, its result or exception opened."""

import asyncio
from typing import Any, cast

from devnest.pool.errors import (
    InvalidTask,
    NotPicklable,
    PoolError,
    WorkerCrashed,
    WorkerTraceback,
    told,
)
from devnest.pool.wire.payload import Packed, pack_call, unpack
from devnest.pool.wire.protocol import OK

__all__ = ["Outcome", "open_answer", "pack_arguments"]

# An exception may be of these and an ordinary one at once. An event loop ends at the first two.
_ENDS_THE_CALLER = (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)


class Outcome:
    """A task's result, or the exception it raised."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error


def pack_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
    """Pickle a call's arguments; raises :class:`InvalidTask` where that fails."""
    try:
        return pack_call(args, kwargs)
    except Exception as error:
        raise InvalidTask(f"the arguments cannot be pickled: {told(error)}") from error


def open_answer(answer: object) -> Any:
    """Return a task's result, or raise its exception or the pool's error."""
    if isinstance(answer, PoolError):
        raise answer
    if isinstance(answer, Outcome):
        if answer.error is None:
            return answer.value
        harmless = _harmless(answer.error)
        if harmless is answer.error:
            raise harmless
        raise harmless from answer.error
    tag, packed = cast(tuple[int, Packed], answer)
    try:
        content = unpack(packed)
    except BaseException as error:  # whatever it is, it is the answer's
        cause = error if issubclass(type(error), Exception) else None
        raise NotPicklable(f"the answer could not be unpickled: {told(error)}") from cause
    if tag == OK:
        return content
    raised, text = content if type(content) is tuple and len(content) == 2 else (None, None)
    if not issubclass(type(raised), BaseException) or type(text) is not str:
        raise NotPicklable(f"the answer of a task that failed is {told(content)}")
    raise _harmless(cast(BaseException, raised)) from WorkerTraceback(text)


def _harmless(error: BaseException) -> Exception:
    """Return a task's exception, or what stands for one that would end or cancel its caller.

    Its type is asked: an object may say of itself what it likes.
    """
    kind = type(error)
    if issubclass(kind, Exception) and not issubclass(kind, _ENDS_THE_CALLER):
        return cast(Exception, error)
    return WorkerCrashed(f"the task raised {told(error)}")
