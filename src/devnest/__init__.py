"""DevNest: a developers' community backend that stays fast while it hashes passwords."""

import os
import sys

__all__ = ["__version__"]

__version__ = "0.1.0"


def _leave_working_directory() -> None:
    """Import nothing from the working directory in a program of ours, `python -m devnest…`; one of others keeps it.

    Python has put it in front of everything, and this is the first line of ours that runs. While it looks for the
    module, "-m" stands for the program's name.
    """
    if sys.argv[:1] != ["-m"] or sys.flags.safe_path:
        return
    module = sys.orig_argv[-len(sys.argv)].removeprefix("-m")
    try:
        directory = os.getcwd()  # noqa: PTH109 (nothing is imported before this is done)
    except OSError:  # it has been removed, and Python has not put it there
        return
    if module.partition(".")[0] == __name__ and sys.path[:1] == [directory]:
        del sys.path[0]


_leave_working_directory()
