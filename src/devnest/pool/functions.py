"""What the pool knows of a function: its importable name, and the marks its author gave it."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from devnest.pool.errors import InvalidTask

__all__ = [
    "MAIN_NAME",
    "MAX_BATCH",
    "Function",
    "batched",
    "describe",
    "is_loading_main",
    "loading_main",
    "pure",
    "resolve",
]

# A worker runs the parent's script under this name, so that `if __name__ == "__main__"` is false there.
MAIN_NAME = "__pool_main__"


MAX_BATCH = 128  # one frame carries a batch, and the kernel passes at most 253 descriptors with one

_MARK = "__devnest_pool__"
F = TypeVar("F", bound=Callable[..., Any])


class Function(NamedTuple):
    """A function as the queue and the wire see it; calls of equal ones may share a batch."""

    name: str  # "module:qualified.name"
    max_size: int = 0  # calls a batch may hold; 0: not batched, called with its own arguments
    pure: bool = False


class _Mark(NamedTuple):
    max_size: int = 0
    pure: bool = False


def batched(*, max_size: int, pure: bool = False) -> Callable[[F], F]:
    """Mark a function that takes a list of calls and gives a list of results, up to ``max_size`` at once.

    Each call is the tuple of the positional arguments given to ``run``. A result that is an exception is
    raised to that call alone. ``pure``: see :func:`pure`; where a pure batch raises, its calls are run again
    one by one, in the same worker, so that the exception reaches only the calls at fault.
    """
    if not 1 <= max_size <= MAX_BATCH:
        raise InvalidTask(f"max_size must be 1 to {MAX_BATCH}, not {max_size}")

    def mark(func: F) -> F:
        setattr(func, _MARK, _Mark(max_size, pure))
        return func

    return mark


def pure(func: F) -> F:
    """Mark a function that may run twice without harm: after a crash its task runs once more elsewhere."""
    setattr(func, _MARK, _Mark(pure=True))
    return func


def describe(func: Callable[..., Any], *, importable: bool = True) -> Function:
    """Return what the pool needs to know of ``func``; with ``importable``, check that a worker can find it.

    Raises :class:`InvalidTask` for a coroutine function, and for one that its own name does not lead to.
    """
    from inspect import iscoroutinefunction  # a worker describes nothing, and boots faster without

    if not callable(func):
        raise InvalidTask(f"{func!r} is not callable")
    if iscoroutinefunction(func):
        raise InvalidTask(f"{func!r} is a coroutine function; a worker runs plain functions")
    mark = getattr(func, _MARK, None) or _Mark()
    name = f"{getattr(func, '__module__', None)}:{getattr(func, '__qualname__', None)}"
    if not importable:
        return Function(f"{name}#{id(func)}", *mark)
    try:
        found = resolve(name)
    except (ImportError, AttributeError, ValueError):
        found = None
    if found is not func:
        raise InvalidTask(
            f"a worker cannot import {func!r} by the name {name}; use a function at a module's top level"
        )
    return Function(name, *mark)


def resolve(name: str) -> Any:
    """Return what ``module:qualified.name`` names, importing the module."""
    module_name, _, path = name.partition(":")
    # sys.modules first: import_module("__main__") would look for a file of that name.
    found: Any = sys.modules.get(module_name) or importlib.import_module(module_name)
    for part in path.split("."):
        found = getattr(found, part)
    return found


_loads_main = False  # of this process


@contextlib.contextmanager
def loading_main() -> Iterator[None]:
    """While a worker runs its parent's script."""
    global _loads_main
    _loads_main = True
    try:
        yield
    finally:
        _loads_main = False


def is_loading_main() -> bool:
    """Whether this is a worker that is running its parent's script at the moment."""
    return _loads_main
