"""What can go wrong before or during a load run, other than the target's answers."""

__all__ = ["BadPlan", "GeneratorDied", "LoadError", "PrepareFailed", "TargetUnreachable"]


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
