"""Checks in advance the files that a command writes at its end."""

import os
from pathlib import Path

from devnest.load import BadPlan

__all__ = ["refuse_unwritable"]


def refuse_unwritable(path: Path) -> None:
    """Check that a file can be written, before a long run and not after it.

    Raises:
        BadPlan: It cannot be written.
    """
    existed = path.exists()
    # Without O_NONBLOCK, opening a named pipe would block until somebody reads from it.
    how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
    try:
        os.close(os.open(path, how, 0o666))
    except OSError as error:
        raise BadPlan(f"cannot write {path}: {error.strerror}") from None
    if not existed:
        path.unlink()
