"""One executor on the shared pool for each process, for frameworks that are synchronous."""

import os
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
    executor = _executor(os.getpid(), path)
    hashed: bytes = executor.run(hashpw_batch, password, setting, deadline=deadline)
    return hashed


@lru_cache(maxsize=8)  # a child of a fork has another process id, so it gets an executor of its own
def _executor(_pid: int, path: str | None) -> PoolExecutor:
    return PoolExecutor(pool=Pool.shared(path))
