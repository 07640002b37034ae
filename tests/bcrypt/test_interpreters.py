"""The compiled kernel in an interpreter of its own, which from Python 3.12 on has its own GIL."""

import os
import subprocess
import sys

from devnest.bcrypt import _kernel

LOAD = """
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("_kernel", {path!r})
kernel = module_from_spec(spec)
spec.loader.exec_module(kernel)
digests = kernel.digests((b"a",) * 8, (bytes([4]) + b"s" * 16) * 8, 8)
import os
os.write(1, b"%d bytes" % len(digests))
"""

RUN = """
import sys
if sys.version_info >= (3, 13):
    import _interpreters
    problem = _interpreters.exec(_interpreters.create("isolated"), {load!r})
    sys.exit(problem and problem.formatted)
import _xxsubinterpreters
_xxsubinterpreters.run_string(_xxsubinterpreters.create(isolated=True), {load!r})
"""


def test_the_kernel_loads_in_an_isolated_interpreter() -> None:
    """Python refuses a module there that does not say it supports an interpreter's own GIL."""
    load = LOAD.format(path=os.fspath(_kernel.__file__ or ""))
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(load=load)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("184 bytes", "")
