"""Tasks whose answers try to do something to whoever opens them."""

import asyncio
import importlib
import os
import stat
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from devnest.pool import batched
from devnest.pool.wire.payload import Packed
from devnest.pool.wire.protocol import Kind, frame, write_items

# What an answer may do to whoever opens it: one of these is raised, or comes back, where it is
# unpickled.
ENDS = {
    "SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt, "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
}  # fmt: skip


def is_worker() -> bool:
    return type(sys.modules["__main__"]).__name__ == "_Main"


def raise_end(name: str) -> NoReturn:
    raise ENDS[name](7)


def make_end(name: str) -> BaseException:
    return ENDS[name](7)


def text_instead(_: str) -> str:
    return "no exception"


def good_in_a_worker(name: str, otherwise: str) -> object:
    """What a worker that tries it finds harmless."""
    return ValueError("good") if is_worker() else globals()[otherwise](name)


def import_it(name: str) -> object:
    return importlib.import_module(name)


class Reduces:
    """Its pickle is a call of a function here."""

    def __init__(self, func: str, *args: str) -> None:
        self.call = globals()[func], args

    def __reduce__(self) -> Any:
        return self.call


class ReducingError(Exception):
    """The same for an exception."""

    def __init__(self, func: str, *args: str) -> None:
        self.call = globals()[func], args

    def __reduce__(self) -> Any:
        return self.call


def give_reducing(func: str, *args: str) -> object:
    return Reduces(func, *args)


def raise_reducing(func: str, *args: str) -> NoReturn:
    raise ReducingError(func, *args)


class ExitBoth(Exception, SystemExit):
    pass


class InterruptBoth(Exception, KeyboardInterrupt):
    pass


class CancelBoth(Exception, asyncio.CancelledError):
    pass


BOTH = {"SystemExit": ExitBoth, "KeyboardInterrupt": InterruptBoth, "CancelledError": CancelBoth}


def raise_both(name: str) -> NoReturn:
    raise BOTH[name]("both")


class SilentError(Exception):
    """Says nothing of itself, and ends whoever asks."""

    def __repr__(self) -> NoReturn:
        sys.exit(7)

    def __str__(self) -> NoReturn:
        sys.exit(7)

    def __bool__(self) -> NoReturn:
        sys.exit(7)


class ExitsAtPickling(Exception):
    def __reduce__(self) -> NoReturn:
        sys.exit(7)


class ExitsAtMaking(Exception):
    def __init__(self, text: str, *, first: bool = False) -> None:
        super().__init__(text)
        if not first:
            sys.exit(7)


class LongError(Exception):
    """Does not pickle, and has much to say of itself."""

    def __init__(self) -> None:
        super().__init__("x" * 10_000_000)
        self.callback = lambda: None


def raise_strange(kind: str) -> NoReturn:
    if kind == "loop":
        one, other = ValueError("one"), ValueError("other")
        one.__cause__, other.__cause__ = other, one
        raise one
    if kind == "chain":
        error = ValueError("the last")
        for _ in range(10_000):
            error, error.__cause__ = ValueError("next"), error
        raise error
    if kind == "syntax":
        strange = SyntaxError("strange")
        strange.text, strange.lineno = 5, "no number"  # type: ignore[assignment]
        raise strange
    if kind == "notes":
        noted = ValueError("noted")
        noted.__notes__ = 5  # type: ignore[assignment]
        raise noted
    if kind == "long message":
        raise ValueError("x" * 1_000_000)
    makers: dict[str, Callable[[], Exception]] = {
        "silent": SilentError, "at pickling": ExitsAtPickling, "at making": partial(ExitsAtMaking, "x", first=True),
        "long": LongError,
    }  # fmt: skip
    raise makers[kind]()


class ExitsAtPicklingToo:
    def __reduce__(self) -> NoReturn:
        sys.exit(7)


def give_exits_at_pickling() -> object:
    return ExitsAtPicklingToo()


class Liar:
    """Says that it is an exception, or ends whoever asks."""

    def __init__(self, says: str) -> None:
        self.says = says

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return ValueError if self.says == "ValueError" else raise_end(self.says)

    def __reduce__(self) -> Any:
        return Liar, (self.says,)


@batched(max_size=8)
def give_entries(calls: list[tuple[str]]) -> Any:
    """What each call names: an exception of that kind, a liar, or a result."""
    entries: list[object] = []
    for (name,) in calls:
        if name.startswith("liar "):
            entries.append(Liar(name.removeprefix("liar ")))
        elif name in ENDS:
            entries.append(ENDS[name](7))
        else:
            entries.append(
                BOTH[name.removeprefix("both ")]("both") if name.startswith("both ") else name
            )
    return iter(entries)


def forge_reply(answers: list[tuple[int, bytes]]) -> None:
    """Answer this worker's first batch with other answers than its calls have, on every socket
    there is.
    """
    body, _ = write_items([(tag, Packed(data)) for tag, data in answers])
    reply = frame(Kind.DONE, 1, bytes(8) + body)
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, reply)
        except OSError:
            continue
    time.sleep(3600)
