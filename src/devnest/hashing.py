"""Passwords on the pool: the operations its workers know, and the runner that asks for them.

bcrypt's hashes gain from being computed together, so they wait for a worker as calls of one batched operation.
argon2id's gain nothing, and five together would keep a sign-in waiting for five times as long: they go one by one.
"""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from devnest.bcrypt import LANES
from devnest.passwords import (
    Work,
    hash_password,
    hash_passwords,
    is_interleaved,
    verify_password,
    verify_passwords,
)
from devnest.pool import Pool, PoolFull, RemotePool, batched, pure

__all__ = ["OPERATIONS", "PoolRunner", "hash_alone", "hash_batch", "verify_alone", "verify_batch"]

T = TypeVar("T")
REST_S = 0.5  # how long a refused client is refused without asking
MOST_REFUSED = 10_000  # clients to remember
DEADLINE_S = 10.0  # whoever would wait longer is refused at once, with a time to come back


@batched(max_size=LANES, pure=True)
def hash_batch(calls: Sequence[tuple[str, int, str]]) -> Sequence[str | Exception]:
    """Hash several (password, cost, scheme); those with bcrypt are interleaved."""
    return hash_passwords(calls)


@batched(max_size=LANES, pure=True)
def verify_batch(calls: Sequence[tuple[str, str]]) -> Sequence[bool | Exception]:
    """Verify several (password, stored); those with bcrypt are interleaved."""
    return verify_passwords(calls)


@pure
def hash_alone(password: str, cost: int, scheme: str) -> str:
    """Hash one password."""
    return hash_password(password, cost, scheme)


@pure
def verify_alone(password: str, stored: str) -> bool:
    """Verify one password."""
    return verify_password(password, stored)


# Each function that a runner is asked for: in batches, and alone.
OPERATIONS: dict[Callable[..., object], tuple[Callable[..., object], Callable[..., object]]] = {
    hash_password: (hash_batch, hash_alone),
    verify_password: (verify_batch, verify_alone),
}


class PoolRunner:
    """Runs password work in a pool, bcrypt in batches with whatever else waits there.

    Cancelling takes a waiting hash out of the queue. Raises the pool's errors: `PoolFull` with a time to come back
    above all.
    """

    def __init__(self, pool: Pool | RemotePool, deadline_s: float = DEADLINE_S) -> None:
        self._pool = pool
        self._deadline_s = deadline_s
        self._full_until: dict[str, float] = {}  # client → when to ask the pool again for it

    def check_room(self, client: str) -> None:
        """Raise `PoolFull` for a client the pool has just refused, before anything is spent on its request.

        The pool itself makes room for a client who has little waiting, at the cost of the one who has most, so this
        turns nobody away but whoever floods.
        """
        left_s = self._full_until.get(client, 0.0) - time.monotonic()
        if left_s > 0:
            raise PoolFull(max(left_s, REST_S), "this client has been refused just now")

    async def __call__(self, function: Callable[..., T], /, *arguments: object, work: Work, client: str) -> T:
        together, alone = OPERATIONS[function]
        operation = together if is_interleaved(str(arguments[-1])) else alone
        try:
            result: T = await self._pool.run(
                operation, *arguments, deadline=self._deadline_s, priority=work.priority, key=client
            )
        except PoolFull as full:
            if len(self._full_until) >= MOST_REFUSED:
                self._full_until.clear()
            self._full_until[client] = time.monotonic() + min(full.retry_after, REST_S)
            raise
        return result
