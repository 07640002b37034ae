"""What can go wrong before or during a load run, other than the target's answers."""

import os
import ssl

__all__ = ["BadPlan", "GeneratorDied", "LoadError", "PrepareFailed", "TargetUnreachable", "told"]


class LoadError(Exception):
    """Base of the load generator's errors; its text is one line for the person who started the run."""


class BadPlan(LoadError, ValueError):
    """The options ask for something impossible; nothing was sent."""


class TargetUnreachable(LoadError):
    """Nothing answers a connection (or a TLS handshake) at the target."""


class PrepareFailed(LoadError):
    """The accounts of the run could not be made, so the run did not start."""


class GeneratorDied(LoadError):
    """A generator process ended before it gave its figures."""


def told(error: OSError) -> str:
    """Why a connection could not be made, in the system's words on any event loop."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return "no answer in time"
    if isinstance(error, ssl.SSLError):  # its errno is OpenSSL's
        return str(getattr(error, "verify_message", "") or error.reason or error)
    return os.strerror(error.errno) if error.errno else str(error) or "the connection was closed"
