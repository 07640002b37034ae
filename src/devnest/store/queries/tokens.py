"""Secrets of clients that the database stores only as hashes: refresh tokens and mailed codes."""

import hashlib
import secrets

__all__ = ["new_token", "token_sha256"]

TOKEN_BYTES = 32  # 256 bits, too many to guess


def new_token() -> str:
    """Return a new token of 256 random bits, as text."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_sha256(token: str) -> bytes:
    """Return the stored form of a token.

    A token of 256 random bits cannot be guessed, so it needs neither a salt nor a slow hash.
    """
    return hashlib.sha256(token.encode()).digest()
