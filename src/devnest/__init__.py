"""DevNest: a developers' community backend that stays fast while it hashes passwords."""

__all__ = ["__version__"]

__version__ = "0.1.0"
