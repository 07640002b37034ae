"""Password hashing on the worker pool for a server: clients that flood are refused early."""

import time
from dataclasses import dataclass

from devnest.passwords import Guess, NewPassword, PoolRunner, Verdict, Work
from devnest.passwords.runners import MAX_HASH_WAIT_S
from devnest.pool import Pool, PoolFull, RemotePool

__all__ = ["GuardedPoolRunner"]

# how long a client is refused without asking the pool, after the pool refused it
MAX_LOCAL_REFUSAL_S = 0.5
PROBATION_S = 5.0  # how long afterwards the client's requests reach the pool one at a time
# A client on probation gets its next request admitted when the previous one has reached the pool.
# After this time the previous one counts as lost.
MAX_ADMISSION_S = 0.05
MAX_REFUSED_CLIENTS = 10_000  # clients remembered; where there are more, all are forgotten


@dataclass(slots=True)
class _Refusal:
    """The refusal of a client by the pool. Times are those of `time.monotonic`."""

    retry_at: float  # when the pool expects to accept a call of this client
    refused_until: float
    forget_at: float
    admitting_until: float = 0.0  # until then, a request of this client is on its way to the pool


class GuardedPoolRunner(PoolRunner):
    """A `PoolRunner` that remembers for a moment which clients the pool has refused.

    Args:
        pool: Where the operations run.
        deadline_s: How long a call may wait and run.
    """

    def __init__(self, pool: Pool | RemotePool, deadline_s: float = MAX_HASH_WAIT_S) -> None:
        super().__init__(pool, deadline_s)
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

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | Verdict:
        if refusal := self._refused.get(client):
            refusal.admitting_until = 0.0
        try:
            return await super().__call__(call, work, client)
        except PoolFull as full:
            if len(self._refused) >= MAX_REFUSED_CLIENTS:
                self._refused.clear()
            now = time.monotonic()
            refused_until = now + min(full.retry_after, MAX_LOCAL_REFUSAL_S)
            self._refused[client] = _Refusal(
                now + full.retry_after, refused_until, refused_until + PROBATION_S
            )
            raise
