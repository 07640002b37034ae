"""How a child's interpreter begins: `python -m devnest.cluster.start MODULE DESCRIPTOR...` runs a module's `main`.

A quarter of the time to load a server would go to what stays anyway, for the garbage collector, and to packages that
other packages load where they find them: rich for tracebacks in colour, pydantic for models that are not used here.
"""

import gc
import sys
from importlib import import_module

UNUSED = ("rich", "pydantic")

if __name__ == "__main__":
    gc.disable()
    sys.modules.update(dict.fromkeys(UNUSED))  # type: ignore[arg-type] # None: to the import system they are not there
    module = import_module(sys.argv[1])
    gc.enable()
    module.main(*map(int, sys.argv[2:]))
