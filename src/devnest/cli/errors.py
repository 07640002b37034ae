"""Turns expected failures into one line on standard error and an exit status."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from devnest.cluster import ChildFailed, PortUnavailable
from devnest.exhaustion import TRANSIENT_STATUS, is_transient
from devnest.keys import KeysUnusable
from devnest.store import (
    DatabaseUnavailable,
    DatabaseUnfit,
    DataDirectoryError,
    NoSocketDirectory,
    PostgresFailed,
    PostgresNotFound,
    StoreError,
)

__all__ = ["Refused", "refuse_option", "reported"]


class Refused(Exception):
    """An argument is valid but cannot be used: no such account, a name in use, a weak password."""


# 0 is a clean stop, 1 anything unexpected, 2 a wrong option or argument. After 2 and 4 another try
# fails too, so systemd makes none (`RestartPreventExitStatus` in deploy/devnest.service).
STATUS: list[tuple[type[Exception], int]] = [
    (Refused, 2),
    (PortUnavailable, 3),
    (DataDirectoryError, 4),
    (KeysUnusable, 4),
    (PostgresNotFound, 4),
    (NoSocketDirectory, 4),
    (DatabaseUnfit, 6),
    (PostgresFailed, TRANSIENT_STATUS),
    (DatabaseUnavailable, TRANSIENT_STATUS),
    (StoreError, TRANSIENT_STATUS),
]


@contextmanager
def reported() -> Iterator[None]:
    """Report an expected failure in one line, and end with its exit status."""
    try:
        yield
    except ChildFailed as error:
        _write(error)
        raise typer.Exit(error.status) from None
    except tuple(kind for kind, _ in STATUS) as error:
        _write(error)
        raise typer.Exit(_status(error)) from None


def _status(error: Exception) -> int:
    if isinstance(error, DataDirectoryError) and error.transient:
        return TRANSIENT_STATUS
    if error.__cause__ is not None and is_transient(error.__cause__):
        return TRANSIENT_STATUS
    return next(status for kind, status in STATUS if isinstance(error, kind))


def refuse_option(param: typer.CallbackParam, reason: str) -> NoReturn:
    """Report a wrong option in one line and end with status 2.

    For options whose value may contain a password: unlike typer's own error, this shows no value.

    Args:
        param: The option.
        reason: What is wrong with its value, without the value.
    """
    _write(f"{param.opts[0]}: {reason}")
    raise typer.Exit(2)


def _write(error: Exception | str) -> None:
    message = " ".join(str(error).split())
    sys.stderr.write(f"devnest: {message}\n")
