"""How a fresh interpreter is started that imports exactly what this process can, and how it ended.

Python puts the working directory, or that of the script, in front of the import path of `python -m` and `python -c`: a
file `logging.py` there is run in place of the library's. `-P` leaves it out. Then the path is this process's own,
entry by entry, before anything is imported, and so are the switches that say what else is looked at.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import devnest

__all__ = ["how_it_ended", "import_path", "interpreter"]

_ROOT = str(Path(devnest.__file__).resolve().parents[1])
# Of DevNest nothing may be found by then, where this process found it otherwise than by its path; then it is at the end
# of that path, where it takes no other module's place.
_START = """\
import sys
entries = int(sys.argv[1])
sys.path[:] = sys.argv[2 : 2 + entries]
del sys.argv[1 : 2 + entries]
"""


def import_path() -> list[str]:
    """Return ``sys.path`` as this process uses it now: absolute, without what the import system passes over."""
    return list(_entries())


def _entries() -> Iterator[str]:
    for entry in sys.path:
        if isinstance(entry, str):  # anything else is passed over
            with contextlib.suppress(
                FileNotFoundError
            ):  # "" is the working directory, which may have been removed
                yield os.path.abspath(entry)  # noqa: PTH100 (Path("") is ".")


def interpreter(program: str, arguments: Sequence[str], path: Sequence[str]) -> list[str]:
    """Return the command that runs a program with some arguments and this import path."""
    path = path if _ROOT in path else [*path, _ROOT]
    return [sys.executable, *_switches(), "-c", _START + program, str(len(path)), *path, *arguments]


def _switches() -> list[str]:
    flags = sys.flags
    given = (
        ("-E", flags.ignore_environment),  # PYTHONPATH and the like
        ("-s", flags.no_user_site),
        ("-S", flags.no_site),
        ("-I", flags.isolated),
    )
    switches = ["-P", *(switch for switch, is_set in given if is_set)]
    return [*switches, "-" + "O" * flags.optimize] if flags.optimize else switches


def how_it_ended(status: int) -> str:
    """Return an exit status in words; less than 0 it is that of a process which a signal ended."""
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:  # most of the real-time signals have no name
        return f"by signal {-status}"
