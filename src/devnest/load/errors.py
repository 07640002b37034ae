"""The errors of a load run, and the words for a connection that failed.

A failed request raises none of these errors: `devnest.load.user` counts it by its reason.
"""

import os
import ssl

__all__ = [
    "BadPlan",
    "GeneratorDied",
    "LoadError",
    "NotDevNest",
    "PrepareFailed",
    "TargetUnreachable",
    "connect_failure",
]


class LoadError(Exception):
    """Base of the load generator's errors. The text is one line for the person at the terminal."""


class BadPlan(LoadError, ValueError):
    """The plan cannot be carried out. Nothing was sent."""


class TargetUnreachable(LoadError):
    """The target accepts no connection, or its TLS handshake fails."""


class NotDevNest(LoadError):
    """The profile needs a DevNest, and the target is something else."""


class PrepareFailed(LoadError):
    """The accounts of the run could not be made or its sign-ins failed, so it did not start."""


class GeneratorDied(LoadError):
    """A generator process ended before it sent all its results."""


def connect_failure(error: OSError) -> str:
    """Return why a connection failed, in the same words on every event loop."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return "no answer in time"
    if isinstance(error, ssl.SSLError):  # its errno is OpenSSL's, so `strerror` does not know it
        return str(getattr(error, "verify_message", "") or error.reason or error)
    return os.strerror(error.errno) if error.errno else str(error) or "the connection was closed"
