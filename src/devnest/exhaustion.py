"""Errors of a machine that has run out of disk, memory or descriptors."""

import errno

__all__ = ["TRANSIENT_STATUS", "is_transient"]

TRANSIENT_STATUS = 5  # the exit status where another try may succeed

# Shortages of disk, quota, memory or descriptors, and disk errors.
TRANSIENT = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EAGAIN,
    errno.EIO,
}


def is_transient(error: BaseException) -> bool:
    """Return whether the same call may succeed later without a change of configuration."""
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno in TRANSIENT
    )
