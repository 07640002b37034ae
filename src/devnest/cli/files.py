"""Files that a command writes at its end."""

import os
from pathlib import Path

from devnest.load import BadPlan

__all__ = ["refuse_unwritable"]


def refuse_unwritable(path: Path) -> None:
    """Learn now, and not after the run, that a file cannot be written; raises `BadPlan`."""
    existed = path.exists()
    how = (
        os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
    )  # the last for a pipe that nobody reads
    try:
        os.close(os.open(path, how, 0o666))
    except OSError as error:
        raise BadPlan(f"cannot write {path}: {error.strerror}") from None
    if not existed:
        path.unlink()
