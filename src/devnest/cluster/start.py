"""How a child's interpreter begins: `python -m devnest.cluster.start MODULE DESCRIPTOR...` runs a module's `main`.

A sixth of the time to load a server is the garbage collector looking at what stays anyway, and structlog loading rich
for tracebacks in colour, which a child never prints.
"""

import gc
import sys
from importlib import import_module

if __name__ == "__main__":
    gc.disable()
    sys.modules["rich"] = None  # type: ignore[assignment] # to the import system: it is not there
    module = import_module(sys.argv[1])
    gc.enable()
    module.main(*map(int, sys.argv[2:]))
