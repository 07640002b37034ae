"""Files that a command writes at its end."""

from pathlib import Path

from devnest.load import BadPlan

__all__ = ["refuse_unwritable"]


def refuse_unwritable(path: Path) -> None:
    """Learn now, and not after the run, that a file cannot be written; raises `BadPlan`."""
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise BadPlan(f"cannot write {path}: {error.strerror}") from None
    if not existed:
        path.unlink()
