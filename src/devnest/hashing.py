"""Passwords on the pool: the two operations its workers know, and the runner that asks for them."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from devnest.bcrypt import LANES
from devnest.passwords import Work, hash_password, hash_passwords, verify_password, verify_passwords
from devnest.pool import Pool, RemotePool, batched

__all__ = ["OPERATIONS", "PoolRunner", "hash_batch", "verify_batch"]

T = TypeVar("T")
DEADLINE_S = 10.0  # whoever would wait longer is refused at once, with a time to come back


@batched(max_size=LANES, pure=True)
def hash_batch(calls: Sequence[tuple[str, int]]) -> Sequence[str | Exception]:
    """Hash several (password, cost), interleaved."""
    return hash_passwords(calls)


@batched(max_size=LANES, pure=True)
def verify_batch(calls: Sequence[tuple[str, str]]) -> Sequence[bool | Exception]:
    """Verify several (password, stored), interleaved."""
    return verify_passwords(calls)


OPERATIONS: dict[Callable[..., object], Callable[..., object]] = {
    hash_password: hash_batch,
    verify_password: verify_batch,
}


class PoolRunner:
    """Runs password work in a pool, in batches with whatever else waits there.

    Cancelling takes a waiting hash out of the queue. Raises the pool's errors: `PoolFull` with a time to come back
    above all.
    """

    def __init__(self, pool: Pool | RemotePool, deadline_s: float = DEADLINE_S) -> None:
        self._pool = pool
        self._deadline_s = deadline_s if deadline_s < math.inf else None

    async def __call__(self, function: Callable[..., T], /, *arguments: object, work: Work, client: str) -> T:
        operation = OPERATIONS[function]
        result: T = await self._pool.run(
            operation, *arguments, deadline=self._deadline_s, priority=work.priority, key=client
        )
        return result
