"""What `PoolExecutor` has workers call in place of some functions; it imports nothing."""

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["call", "call_each"]


def call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return `func(*args, **kwargs)`, for a function that is sent as a pickle."""
    return func(*args, **kwargs)


def call_each(func: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the results of several calls of a function."""
    return [func(*args) for args in calls]
