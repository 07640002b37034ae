"""The secrets that clients are given and the database never sees: refresh tokens, and the codes in mails."""

import hashlib
import secrets

__all__ = ["new_token", "token_sha256"]

TOKEN_BYTES = 32


def new_token() -> str:
    """256 random bits, as a client gets them."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_sha256(token: str) -> bytes:
    """What is stored: a random token of 256 bits needs no salt and no slow hash, it cannot be guessed."""
    return hashlib.sha256(token.encode()).digest()
