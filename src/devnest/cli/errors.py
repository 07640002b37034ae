"""Exit statuses, and failures told in one line."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from devnest.cluster import ChildFailed, PortUnavailable
from devnest.keys import KeysUnusable
from devnest.store import (
    DatabaseUnavailable,
    DatabaseUnfit,
    DataDirectoryError,
    PostgresFailed,
    PostgresNotFound,
    StoreError,
)

__all__ = ["reported"]

# 0 is a clean stop, 1 anything unexpected, 2 a wrong option.
STATUS: list[tuple[type[Exception], int]] = [
    (PortUnavailable, 3),
    (DataDirectoryError, 4),
    (KeysUnusable, 4),
    (PostgresNotFound, 4),
    (PostgresFailed, 4),
    (DatabaseUnfit, 6),
    (DatabaseUnavailable, 5),
    (StoreError, 5),
]


@contextmanager
def reported() -> Iterator[None]:
    """Turn an expected failure into one line on standard error and an exit status of its own."""
    try:
        yield
    except ChildFailed as error:
        _write(error)
        raise typer.Exit(error.status) from None
    except tuple(kind for kind, _ in STATUS) as error:
        _write(error)
        raise typer.Exit(next(status for kind, status in STATUS if isinstance(error, kind))) from None


def _write(error: Exception) -> None:
    message = " ".join(str(error).split())
    sys.stderr.write(f"devnest: {message}\n")
