"""ContextVars that travel with a call, such as the id of a request or its `traceparent`."""

import contextvars
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from devnest.pool.errors import InvalidTask
from devnest.pool.functions import resolve

__all__ = ["Context", "run_with"]


class Context:
    """The variables whose values travel.

    Args:
        names: Of each variable, `module:name`, by which a worker can import it.

    Raises:
        InvalidTask: A name names no ContextVar.
    """

    def __init__(self, names: Sequence[str]) -> None:
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise InvalidTask("context must be a list of names, each like 'module:name'")
        self._variables = {name: _variable(name) for name in names}

    def __bool__(self) -> bool:
        """Whether there is any variable."""
        return bool(self._variables)

    def values(self) -> dict[str, Any]:
        """Return the values of those that are set here, by name."""
        unset = object()
        values = {name: variable.get(unset) for name, variable in self._variables.items()}
        return {name: value for name, value in values.items() if value is not unset}


def run_with(
    values: dict[str, Any],
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run a function in a context that has these values and no others."""
    context = contextvars.Context()
    for name, value in values.items():
        context.run(_variable(name).set, value)
    return context.run(func, *args, **kwargs)


def _variable(name: str) -> "contextvars.ContextVar[Any]":
    try:
        found = resolve(name)
    except Exception as error:  # of any kind: the module runs when it is imported
        raise InvalidTask(f"context: {name!r} cannot be imported: {error}") from error
    if not isinstance(found, contextvars.ContextVar):
        raise InvalidTask(f"context: {name!r} is no ContextVar")
    return found
