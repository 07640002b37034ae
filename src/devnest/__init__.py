"""DevNest: a developers' community backend that stays fast while it hashes passwords."""

import os
import sys

__all__ = ["__version__"]

__version__ = "0.1.0"


def _leave_working_directory() -> None:
    """Stop `python -m devnest…` from importing modules of the working directory.

    Python puts the working directory first in `sys.path` for `-m`, and this function is the first
    line of DevNest that runs. While Python looks for the module, `sys.argv[0]` is "-m". Other
    programs that import DevNest keep their path.
    """
    if sys.argv[:1] != ["-m"] or sys.flags.safe_path:
        return
    module = sys.orig_argv[-len(sys.argv)].removeprefix("-m")
    try:
        directory = os.getcwd()  # noqa: PTH109 (nothing may be imported before this)
    except OSError:  # it was removed, so Python did not add it
        return
    if module.partition(".")[0] == __name__ and sys.path[:1] == [directory]:
        del sys.path[0]


_leave_working_directory()
