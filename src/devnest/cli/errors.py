"""Exit statuses, and failures told in one line."""

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
    """An argument was read and understood, and cannot be had: no such account, a taken name, a weak password."""


# 0 is a clean stop, 1 anything unexpected, 2 a wrong option or argument. After 2 and 4 trying again does not help, and
# systemd does not (deploy/devnest.service).
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
    """Turn an expected failure into one line on standard error and an exit status of its own."""
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
    """Say in one line what is wrong with an option whose value may hold a password, and end with status 2."""
    _write(f"{param.opts[0]}: {reason}")
    raise typer.Exit(2)


def _write(error: Exception | str) -> None:
    message = " ".join(str(error).split())
    sys.stderr.write(f"devnest: {message}\n")
