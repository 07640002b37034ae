"""A module that a worker cannot import, though its parent could."""

import sys

if "pytest" not in sys.modules:
    raise ImportError("this module cannot be imported here")


def never() -> None:
    """Not reached in a worker."""
