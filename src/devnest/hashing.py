"""Password hashing on the worker pool: its operations, and the runner that calls them.

bcrypt hashes are faster when computed together, so new passwords and guesses are calls of one
batched operation. Hashes that replace a stored hash have an operation of their own: they may cost
many times as much, and a login in the same batch would wait for them. argon2id gains nothing from
batches, and a login in a batch of five would wait five times as long, so its hashes run one by one.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from devnest.bcrypt import LANES
from devnest.passwords import Guess, NewPassword, Work, compute, compute_all
from devnest.pool import Pool, PoolFull, RemotePool, batched, pure

__all__ = ["OPERATIONS", "PoolRunner", "compute_alone", "compute_batch", "rehash_batch"]

# how long a client is refused without asking the pool, after the pool refused it
MAX_LOCAL_REFUSAL_S = 0.5
PROBATION_S = 5.0  # how long afterwards the client's requests reach the pool one at a time
# A client on probation gets its next request admitted when the previous one has reached the pool.
# After this time the previous one counts as lost.
MAX_ADMISSION_S = 0.05
MAX_REFUSED_CLIENTS = 10_000  # clients remembered; where there are more, all are forgotten
# Requests that would wait longer for a hash are refused immediately. Proxies and clients usually
# give up after 30 s; many logins after an outage are better answered late than refused.
MAX_HASH_WAIT_S = 25.0


@batched(max_size=LANES, pure=True)
def compute_batch(calls: Sequence[tuple[NewPassword | Guess]]) -> Sequence[str | bool | Exception]:
    """Hash new passwords and check guesses; bcrypt hashes are interleaved on one core."""
    return compute_all([call for (call,) in calls])


@batched(max_size=LANES, pure=True)
def rehash_batch(calls: Sequence[tuple[NewPassword]]) -> Sequence[str | bool | Exception]:
    """Hash passwords like `compute_batch`, for hashes that no request waits for."""
    return compute_all([call for (call,) in calls])


@pure
def compute_alone(call: NewPassword | Guess) -> str | bool:
    """Hash one new password, or check one guess."""
    return compute(call)


OPERATIONS = (compute_batch, rehash_batch, compute_alone)


@dataclass(slots=True)
class _Refusal:
    """The refusal of a client by the pool. Times are those of `time.monotonic`."""

    retry_at: float  # when the pool expects to accept a call of this client
    refused_until: float
    forget_at: float
    admitting_until: float = 0.0  # until then, a request of this client is on its way to the pool


class PoolRunner:
    """Runs password work in a pool, bcrypt in batches with other waiting work.

    A cancelled hash that waits leaves the queue.

    Args:
        pool: Where the operations run.
        deadline_s: How long a call may wait and run.

    Raises:
        PoolError: A call raises the errors of the pool, usually `PoolFull` with a time to retry.
    """

    def __init__(self, pool: Pool | RemotePool, deadline_s: float = MAX_HASH_WAIT_S) -> None:
        self._pool = pool
        self._deadline_s = deadline_s
        self._refused: dict[str, _Refusal] = {}

    def raise_if_refused(self, client: str) -> None:
        """Raise `PoolFull` for a client that the pool has just refused.

        This runs before anything is spent on the request. When `MAX_LOCAL_REFUSAL_S` has passed,
        the client's requests pass one at a time. If they all passed, each would be looked up in the
        database before the pool refuses again, and the requests of other clients would wait.

        Only clients that flood are affected: a full pool accepts a client with little waiting work
        at the cost of the client with the most.

        Args:
            client: The network whose request it is.
        """
        refusal = self._refused.get(client)
        if refusal is None:
            return
        now = time.monotonic()
        if now < refusal.refused_until or now < refusal.admitting_until:
            raise PoolFull(
                max(refusal.retry_at - now, MAX_ADMISSION_S),
                "this client was refused a moment ago",
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
