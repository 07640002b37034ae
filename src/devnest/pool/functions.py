"""Functions that a pool runs: their importable names, and the decorators `batched` and `pure`."""

import contextlib
import importlib
import os
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
    "main_source",
    "pure",
    "resolve",
]

# Workers run the parent's script under this name, so its `if __name__ == "__main__":` block is
# skipped.
MAIN_NAME = "__pool_main__"


# A batch is one frame with at most one descriptor for each call, and Linux sends at most 253 at
# once.
MAX_BATCH = 128

_MARK = "__devnest_pool__"
F = TypeVar("F", bound=Callable[..., Any])


class Function(NamedTuple):
    """A function as the queue and the protocol see it; calls of equal ones may share a batch."""

    name: str  # "module:qualified.name"
    max_size: int = 0  # the most calls in a batch; 0: not batched, called with its own arguments
    pure: bool = False


class _Mark(NamedTuple):
    max_size: int = 0
    pure: bool = False


def batched(*, max_size: int, pure: bool = False) -> Callable[[F], F]:
    """Mark a function that handles several calls at once.

    The function takes a list of calls, each the tuple of the positional arguments given to `run`.
    It returns a list of as many results, in the same order. An exception in that list is raised to
    its call alone.

    A batch consists of calls that are waiting when a worker becomes idle. No call waits for a batch
    to fill.

    For example::

        @batched(max_size=4)
        def hash_passwords(calls: list[tuple[bytes, bytes]]) -> list[bytes]: ...


        hashed = await pool.run(hash_passwords, password, salt)

    Args:
        max_size: The most calls in a batch, 1 to 128.
        pure: Whether the function may run twice for the same call without harm, as with `pure`. If
            a pure batch raises, the worker runs its calls again one by one, so that the exception
            reaches only the calls at fault. If an impure batch raises, all its calls raise.

    Returns:
        A decorator, which returns the function itself.

    Raises:
        InvalidTask: `max_size` is out of its range.
    """
    if not 1 <= max_size <= MAX_BATCH:
        raise InvalidTask(f"max_size must be 1 to {MAX_BATCH}, not {max_size}")

    def mark(func: F) -> F:
        setattr(func, _MARK, _Mark(max_size, pure))
        return func

    return mark


def pure(func: F) -> F:
    """Mark a function that may run twice for the same call without harm.

    If its worker crashes, the call runs once more in another worker. Calls of other functions raise
    `WorkerCrashed`, as they may already have had an effect.

    Args:
        func: The function.

    Returns:
        The function itself.
    """
    setattr(func, _MARK, _Mark(pure=True))
    return func


def describe(func: Callable[..., Any], *, importable: bool = True) -> Function:
    """Return what the pool needs to know about a function.

    Args:
        func: The function.
        importable: Whether to check that a worker can import it by its name.

    Raises:
        InvalidTask: It is not callable, is a coroutine function, or cannot be imported by its name.
    """
    from inspect import iscoroutinefunction  # not at the top: workers start faster without

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
    if found is func and name.startswith("__main__:") and main_source() == (None, None):
        raise InvalidTask(
            f"a worker cannot import {func!r}: this program's main module is no file (as in "
            "a notebook, in the interactive interpreter and with python -c); "
            "put the function in a module and import it"
        )
    if found is not func:
        raise InvalidTask(
            f"a worker cannot import {func!r} by the name {name}; "
            "use a function at a module's top level"
        )
    return Function(name, *mark)


def resolve(name: str) -> Any:
    """Return the object that `module:qualified.name` names, and import its module."""
    module_name, _, path = name.partition(":")
    # `sys.modules` first: `import_module("__main__")` would look for a file of that name.
    found: Any = sys.modules.get(module_name) or importlib.import_module(module_name)
    for part in path.split("."):
        found = getattr(found, part)
    return found


_main_source: tuple[str | None, str | None] = (None, None)


def main_source() -> tuple[str | None, str | None]:
    """Return the path of this process' main script, or the name of its main module.

    The answer stays when the script has ended, although Python then forgets its path.

    Returns:
        The path and `None`, or `None` and the name; twice `None` where the main module is no file.
    """
    global _main_source
    main = sys.modules.get("__main__")
    spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        _main_source = None, spec.name
    elif isinstance(path, str) and os.path.isfile(path):  # noqa: PTH113 (pathlib loads slowly)
        _main_source = os.path.abspath(path), None  # noqa: PTH100
    return _main_source


_loads_main = False  # whether this worker is running its parent's script now


@contextlib.contextmanager
def loading_main() -> Iterator[None]:
    """Mark, for the duration of the context, that this worker is running its parent's script."""
    global _loads_main
    _loads_main = True
    try:
        yield
    finally:
        _loads_main = False


def is_loading_main() -> bool:
    """Whether this process is a worker that is running its parent's script."""
    return _loads_main
