"""Packs the arguments of a call, and unpacks its answer into a result or an exception."""

import asyncio
from typing import Any, cast

from devnest.pool.errors import (
    InvalidTask,
    NotPicklable,
    PoolError,
    WorkerCrashed,
    WorkerTraceback,
    safe_repr,
)
from devnest.pool.wire.payload import Packed, pack_call, unpack
from devnest.pool.wire.protocol import OK

__all__ = ["Outcome", "open_answer", "pack_arguments"]

# An exception's class may derive from `Exception` and from one of these as well. The first two stop
# an event loop.
_CONTROL_FLOW_ERRORS = (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)


class Outcome:
    """The result of a task that ran in a thread, or the exception that it raised."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error


def pack_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], context: dict[str, Any] | None = None
) -> Packed:
    """Pickle a call's arguments and the values of its context, or raise `InvalidTask`."""
    try:
        return pack_call(args, kwargs, context)
    except Exception as error:
        raise InvalidTask(f"the arguments cannot be pickled: {safe_repr(error)}") from error


def open_answer(answer: object) -> Any:
    """Return a task's result, or raise its exception or the pool's error."""
    if isinstance(answer, PoolError):
        raise answer
    if isinstance(answer, Outcome):
        if answer.error is None:
            return answer.value
        to_raise = _safe_to_raise(answer.error)
        if to_raise is answer.error:
            raise to_raise
        raise to_raise from answer.error
    tag, packed = cast(tuple[int, Packed], answer)
    try:
        content = unpack(packed)
    except BaseException as error:  # unpickling runs code of the task, which can raise anything
        cause = error if issubclass(type(error), Exception) else None
        raise NotPicklable(f"the answer could not be unpickled: {safe_repr(error)}") from cause
    if tag == OK:
        return content
    raised, text = content if type(content) is tuple and len(content) == 2 else (None, None)
    if not issubclass(type(raised), BaseException) or type(text) is not str:
        raise NotPicklable(f"the answer of a task that failed is {safe_repr(content)}")
    raise _safe_to_raise(cast(BaseException, raised)) from WorkerTraceback(text)


def _safe_to_raise(error: BaseException) -> Exception:
    """Return a task's exception, or `WorkerCrashed` for one that would end or cancel its caller."""
    # `type`, not `isinstance`, which an object can deceive by its `__class__`.
    kind = type(error)
    if issubclass(kind, Exception) and not issubclass(kind, _CONTROL_FLOW_ERRORS):
        return cast(Exception, error)
    return WorkerCrashed(f"the task raised {safe_repr(error)}")
