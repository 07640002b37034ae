"""The errors of stored passwords."""

__all__ = ["UnusableHash"]


class UnusableHash(ValueError):
    """A stored hash has no known format, or asks for more work than allowed.

    The message does not quote it.
    """
