"""bcrypt, up to eight hashes at once on one core, with the functions of pyca/bcrypt.

`gensalt`, `hashpw` and `checkpw` give the same results and raise the same errors as pyca/bcrypt.
`kdf` and `__version__` are those of pyca/bcrypt.
The speed comes from `hashpw_many` and `checkpw_many`, which interleave several hashes on one core
(docs/explanation/lanes.md).

Where the kernel was not compiled at installation, the same functions run on pyca/bcrypt, and
`LANES` is 1. The first import in a process then issues a `RuntimeWarning` whose text begins with
"the bcrypt kernel". To hide it, call this before the import::

    warnings.filterwarnings("ignore", "the bcrypt kernel", RuntimeWarning)

The warning is a plain `RuntimeWarning`, because a filter must be able to name its class before the
import.
"""

from bcrypt import __version__, kdf  # type: ignore[attr-defined]  # its stubs lack __version__

from devnest.bcrypt.backend import LANES as _LANES
from devnest.bcrypt.encoding import gensalt
from devnest.bcrypt.hashing import CostTooHigh, checkpw, checkpw_many, hashpw, hashpw_many

__all__ = [
    "LANES",
    "CostTooHigh",
    "__version__",
    "checkpw",
    "checkpw_many",
    "gensalt",
    "hashpw",
    "hashpw_many",
    "kdf",
]

LANES = _LANES
"""How many hashes this process interleaves on one core.

`DEVNEST_LANES` sets it, else the result of `devnest calibrate`.
"""
