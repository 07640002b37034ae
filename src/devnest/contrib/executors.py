"""One executor on each shared pool, for frameworks that are synchronous."""

from functools import lru_cache

from devnest.passwords.operations import hashpw_batch
from devnest.pool import Pool, PoolExecutor

__all__ = ["hashpw"]


def hashpw(
    password: bytes, setting: bytes, *, path: str | None = None, deadline: float | None = None
) -> bytes:
    """Return a bcrypt hash that the shared pool computes together with others that wait.

    Args:
        password: At most 72 bytes.
        setting: A salt of `gensalt`, or a stored hash.
        path: The socket of the shared pool, as for `Pool.shared`.
        deadline: Seconds until the answer is due.

    Raises:
        ValueError: The password or the setting is invalid, or asks for too much work.
        PoolError: As `Pool.run` raises it.
    """
    hashed: bytes = _executor(path).run(hashpw_batch, password, setting, deadline=deadline)
    return hashed


@lru_cache(maxsize=8)
def _executor(path: str | None) -> PoolExecutor:
    return PoolExecutor(pool=Pool.shared(path))
