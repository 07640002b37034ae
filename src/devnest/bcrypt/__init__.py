"""Several bcrypt hashes at once on one core: pyca/bcrypt's gensalt, hashpw and checkpw, and the same for many.

The speed comes from `hashpw_many` and `checkpw_many`: see docs/explanation/lanes.md. Where the kernel was not
compiled at installation, the same functions run on pyca/bcrypt, and LANES is 1. The first import in a process says so
by a RuntimeWarning whose text begins with "the bcrypt kernel". To hide it, call this before the import::

    warnings.filterwarnings("ignore", "the bcrypt kernel", RuntimeWarning)

The warning has no class of its own, for a class of this package could not be named before the import that warns.
"""

from devnest.bcrypt.backend import LANES as _LANES
from devnest.bcrypt.encoding import gensalt
from devnest.bcrypt.hashing import CostTooHigh, checkpw, checkpw_many, hashpw, hashpw_many

__all__ = ["LANES", "CostTooHigh", "checkpw", "checkpw_many", "gensalt", "hashpw", "hashpw_many"]

LANES = _LANES
"""Hashes interleaved on one core by this process: set by DEVNEST_LANES or `devnest calibrate`."""
