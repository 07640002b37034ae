"""A hasher for pwdlib, which FastAPI's tutorial and fastapi-users use.

For example::

    password_hash = PasswordHash((DevNestHasher(), Argon2Hasher()))

It writes the forms of `PasswordHasher`, and verifies all that `PasswordHasher` knows. pwdlib is
synchronous: in an `async def` route, call it by `asyncio.to_thread`, or use `PasswordHasher`.
"""

from pwdlib.hashers.base import HasherProtocol

from devnest.passwords import PasswordHasher, is_known, needs_rehash
from devnest.passwords.hasher import DEFAULT_COST
from devnest.pool import Pool

__all__ = ["DevNestHasher"]


class DevNestHasher(HasherProtocol):
    """bcrypt with lanes in the shared pool, or argon2id.

    Args:
        path: The socket of the shared pool, as for `Pool.shared`.
        cost: As for `PasswordHasher`.
        scheme: As for `PasswordHasher`.
    """

    def __init__(
        self, path: str | None = None, *, cost: int = DEFAULT_COST, scheme: str = "bcrypt"
    ) -> None:
        self._cost = cost
        self._scheme = scheme
        self._hasher = PasswordHasher(Pool.shared(path), cost=cost, scheme=scheme).sync

    @classmethod
    def identify(cls, hash: str | bytes) -> bool:
        """Return whether a stored hash has a form that `PasswordHasher` verifies."""
        stored = _text(hash)
        return stored is not None and is_known(stored)

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        """Hash a new password; the salt is always a new one.

        Raises:
            ValueError: A salt is given, or the bytes are not UTF-8.
            PoolError: As `PasswordHasher.hash` raises it.
        """
        if salt is not None:
            raise ValueError("a salt cannot be given: each hash gets a new one")
        return self._hasher.hash(_password(password))

    def verify(self, password: str | bytes, hash: str | bytes) -> bool:
        """Return whether the password is the one that was stored.

        Raises:
            UnusableHash: The stored form is malformed or asks for too much work.
            ValueError: The password is bytes that are not UTF-8.
            PoolError: As `PasswordHasher.verify` raises it.
        """
        stored = _text(hash)
        # What is no text has no known form. The hasher says so, after the work of a usual hash.
        return self._hasher.verify(_password(password), "" if stored is None else stored)

    def check_needs_rehash(self, hash: str | bytes) -> bool:
        """Return whether the stored hash should be replaced by a new one.

        pwdlib does not say by which password, so a bcrypt hash that ignores what follows 72 bytes
        is replaced too. `PasswordHasher.verify_and_update` keeps it.
        """
        stored = _text(hash)
        return stored is None or needs_rehash(stored, self._cost, self._scheme)


def _password(value: str | bytes) -> str:
    text = _text(value)
    if text is None:
        raise ValueError("a password of bytes must be UTF-8")
    return text


def _text(value: str | bytes) -> str | None:
    """Return the text of bytes, or None; a `UnicodeDecodeError` would have them in it."""
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return None
