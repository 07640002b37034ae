"""Passwords on the pool: the operations its workers know, and the runner that asks for them.

bcrypt's hashes gain from being computed together, so new passwords and guesses wait for a worker as calls of one
batched operation. Those that replace a stored hash have one of their own: they may cost many times as much, and a
sign-in beside them would wait for them. argon2id's gain nothing from company, and five together would keep a sign-in
waiting for five times as long: they go one by one.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from devnest.bcrypt import LANES
from devnest.passwords import Guess, NewPassword, Work, compute, compute_all
from devnest.pool import Pool, PoolFull, RemotePool, batched, pure

__all__ = ["OPERATIONS", "PoolRunner", "compute_alone", "compute_batch", "rehash_batch"]

MAX_LOCAL_REFUSAL_S = 0.5  # how long a refused client is refused without asking
PROBATION_S = 5.0  # and how long after that its requests come to the pool one by one
MAX_ADMISSION_S = 0.05  # one that has not come there by then gets no further
MAX_REFUSED_CLIENTS = 10_000  # clients to remember
# Whoever would wait longer is refused at once, with a time to come back. Proxies and clients give up after 30 s or
# more, and a crowd that signs in after an outage is better served late than told to try again.
MAX_HASH_WAIT_S = 25.0


@batched(max_size=LANES, pure=True)
def compute_batch(calls: Sequence[tuple[NewPassword | Guess]]) -> Sequence[str | bool | Exception]:
    """Hash new passwords and check guesses; those with bcrypt are interleaved."""
    return compute_all([call for (call,) in calls])


@batched(max_size=LANES, pure=True)
def rehash_batch(calls: Sequence[tuple[NewPassword]]) -> Sequence[str | bool | Exception]:
    """The same for hashes that nobody waits for."""
    return compute_all([call for (call,) in calls])


@pure
def compute_alone(call: NewPassword | Guess) -> str | bool:
    """Hash one new password, or check one guess."""
    return compute(call)


OPERATIONS = (compute_batch, rehash_batch, compute_alone)


@dataclass(slots=True)
class _Refusal:
    """Of a client by the pool. Times of `time.monotonic`."""

    retry_at: float  # when the pool expects to have room
    refused_until: float
    forget_at: float
    admitting_until: float = 0.0  # a request of the client is on its way to the pool


class PoolRunner:
    """Runs password work in a pool, bcrypt in batches with whatever else waits there.

    Cancelling takes a waiting hash out of the queue. Raises the pool's errors: `PoolFull` with a time to come back
    above all.
    """

    def __init__(self, pool: Pool | RemotePool, deadline_s: float = MAX_HASH_WAIT_S) -> None:
        self._pool = pool
        self._deadline_s = deadline_s
        self._refused: dict[str, _Refusal] = {}

    def raise_if_refused(self, client: str) -> None:
        """Raise `PoolFull` for a client the pool has just refused, before anything is spent on its request.

        Afterwards its requests pass one at a time, each when the one before has come to the pool: else all that arrive
        until the pool refuses again would be looked up at once, and everybody else's requests would wait for that.
        The pool itself makes room for a client who has little waiting, at the cost of the one who has most, so this
        turns nobody away but whoever floods.
        """
        refusal = self._refused.get(client)
        if refusal is None:
            return
        now = time.monotonic()
        if now < refusal.refused_until or now < refusal.admitting_until:
            raise PoolFull(
                max(refusal.retry_at - now, MAX_ADMISSION_S),
                "this client has been refused just now",
            )
        if now < refusal.forget_at:
            refusal.admitting_until = now + MAX_ADMISSION_S
        else:
            del self._refused[client]

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | bool:
        together = rehash_batch if work is Work.REHASH else compute_batch
        operation = together if call.is_interleaved else compute_alone
        if refusal := self._refused.get(client):
            refusal.admitting_until = 0.0
        try:
            result: str | bool = await self._pool.run(
                operation, call, deadline=self._deadline_s, priority=work.priority, key=client
            )
        except PoolFull as full:
            if len(self._refused) >= MAX_REFUSED_CLIENTS:
                self._refused.clear()
            now = time.monotonic()
            refused_until = now + min(full.retry_after, MAX_LOCAL_REFUSAL_S)
            self._refused[client] = _Refusal(
                now + full.retry_after, refused_until, refused_until + PROBATION_S
            )
            raise
        return result
