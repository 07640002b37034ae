"""How a fresh interpreter is started that imports exactly what this process can, and how it ended.

Python puts the working directory, or the script's, first in the import path of `python -m` and
`python -c`, so a file `logging.py` there would replace the standard library's. `-P` prevents that.
The program then takes over the import path of this process, before it imports anything. The
interpreter also gets the same switches for environment variables and site packages.
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
# DevNest must be importable even if this process found it by other means than `sys.path`. In that
# case its directory comes last in the path, where it cannot hide other modules.
_START = """\
import sys
entries = int(sys.argv[1])
sys.path[:] = sys.argv[2 : 2 + entries]
del sys.argv[1 : 2 + entries]
"""


def import_path() -> list[str]:
    """Return the present `sys.path` with absolute entries, without those that imports ignore."""
    return list(_entries())


def _entries() -> Iterator[str]:
    for entry in sys.path:
        if isinstance(entry, str):  # imports ignore all other types
            # "" is the working directory, which may have been removed.
            with contextlib.suppress(FileNotFoundError):
                yield os.path.abspath(entry)  # noqa: PTH100 (Path("") is ".")


def interpreter(program: str, arguments: Sequence[str], path: Sequence[str]) -> list[str]:
    """Return the command that runs a program with the given arguments and import path."""
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
    """Return an exit status in words; a negative one is the number of the signal that ended it."""
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:  # most of the real-time signals have no name
        return f"by signal {-status}"
