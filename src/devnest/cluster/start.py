"""The first code in a child's interpreter: imports a module and runs its `main`.

The command line names the module and the file descriptors that are the arguments of `main`.
"""

import gc
import signal
import sys
import warnings
from importlib import import_module

from devnest.streams import move_to_background

# Other packages import these if they are installed: rich for tracebacks in colour, pydantic for
# models that DevNest does not use. Hiding them shortens the start of a child.
UNUSED_PACKAGES = ("rich", "pydantic")
# Only the supervisor acts on these signals; in a child, where they arrive when they are sent to all
# processes at once, they would end the process or raise in a request. A child is started with them
# blocked, because they could arrive before it ignores them.
SUPERVISOR_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)

__all__ = ["main"]


def main() -> None:
    """Run the module that the command line names."""
    for number in SUPERVISOR_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISOR_SIGNALS)
    move_to_background()
    gc.disable()  # modules and classes stay: collections during the imports would find nothing
    # `devnest serve` has logged it already.
    warnings.filterwarnings("ignore", "the bcrypt kernel", RuntimeWarning)
    # None makes an import fail with ModuleNotFoundError, as if the package were not installed.
    sys.modules.update(dict.fromkeys(UNUSED_PACKAGES))  # type: ignore[arg-type]
    module = import_module(sys.argv[1])
    gc.enable()
    module.main(*map(int, sys.argv[2:]))
