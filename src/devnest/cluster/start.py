"""How a child's interpreter begins: its arguments are a module, whose `main` it runs, and descriptors for that.

A quarter of the time to load a server would go to what stays anyway, for the garbage collector, and to packages that
other packages load where they find them: rich for tracebacks in colour, pydantic for models that are not used here.
"""

import gc
import signal
import sys
import warnings
from importlib import import_module

from devnest.streams import move_to_background

UNUSED = ("rich", "pydantic")
# The supervisor acts on these. Sent to every process at once they would end a child, or raise within a request. A child
# is started with them blocked, so that none reaches an interpreter that has not come as far as to ignore them.
SUPERVISORS = (signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)

__all__ = ["main"]


def main() -> None:
    """Run the child that this process was started as."""
    for number in SUPERVISORS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISORS)
    move_to_background()
    gc.disable()
    warnings.filterwarnings(
        "ignore", "the bcrypt kernel", RuntimeWarning
    )  # `devnest serve` has logged it
    sys.modules.update(dict.fromkeys(UNUSED))  # type: ignore[arg-type] # None: to the import system they are not there
    module = import_module(sys.argv[1])
    gc.enable()
    module.main(*map(int, sys.argv[2:]))
