"""What can be wrong with a stored password."""

__all__ = ["UnusableHash"]


class UnusableHash(ValueError):
    """A stored hash is in no known format, or asks for more work than allowed. The message does not quote it."""
