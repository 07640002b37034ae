"""Where password hashes are computed: on the event loop, on threads, or in a pool."""

import asyncio
import os
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

from devnest.passwords.operations import operation_of
from devnest.passwords.scheme import Guess, NewPassword, Verdict, compute
from devnest.pool import Pool, PoolExecutor, RemotePool

__all__ = [
    "MAX_HASH_WAIT_S",
    "BlockingRunner",
    "InlineRunner",
    "PoolRunner",
    "Runner",
    "ThreadRunner",
    "Work",
]

# Calls that would wait longer for a hash are refused immediately. Proxies and clients usually give
# up after 30 s; many sign-ins after an outage are better answered late than refused.
MAX_HASH_WAIT_S = 25.0


class Work(Enum):
    """What a hash is for. The value is its priority in a queue, where lower goes first."""

    AWAITED = 0  # a client waits for it, to sign in, to register or to change a password
    REHASH = 10  # the replacement of a stored hash


class Runner(ABC):
    """Runs `compute` somewhere, and awaits its result.

    `work` and `client`, which say what and whom the work is for, may order a queue.
    """

    @abstractmethod
    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | Verdict:
        """Return what `compute` returns."""

    def raise_if_refused(self, client: str) -> None:  # noqa: B027 (most refuse nobody)
        """Raise the error that a call for this client would raise now because a queue is full."""


class InlineRunner(Runner):
    """Runs the work on the event loop, which serves nobody else meanwhile.

    It is the "before" of the experiment.
    """

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | Verdict:
        return compute(call)


class ThreadRunner(Runner):
    """Runs the work on threads of its own, so that the event loop's default threads stay free.

    bcrypt releases the GIL while it hashes. A process that was forked gets threads of its own.

    Args:
        threads: How many hashes run at once; the others wait in order.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._open()

    def _open(self) -> None:
        self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="hashing")
        self._pid = os.getpid()

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | Verdict:
        if self._pid != os.getpid():
            self._open()
        return await asyncio.get_running_loop().run_in_executor(self._executor, compute, call)

    def close(self) -> None:
        """Drop the work that waits, and let running work end by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class PoolRunner(Runner):
    """Runs the work in a pool, bcrypt in batches with other waiting work.

    A cancelled hash that waits leaves the queue.

    Args:
        pool: Where the work runs. It has to be started.
        deadline_s: How long a call may wait and run.

    Raises:
        PoolError: A call raises the errors of the pool, usually `PoolFull` with a time to retry.
    """

    def __init__(self, pool: Pool | RemotePool, deadline_s: float = MAX_HASH_WAIT_S) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | Verdict:
        operation = operation_of(call, awaited=work is Work.AWAITED)
        result: str | Verdict = await self._pool.run(
            operation, call, deadline=self._deadline_s, priority=work.value, key=client
        )
        return result


class BlockingRunner(Runner):
    """Runs the work in a pool as `PoolRunner` does, while the calling thread waits.

    Its calls never suspend. They serve callers that have no event loop.

    Args:
        pool: Where the work runs. If it is not started, an event loop in a thread starts it.
        deadline_s: How long a call may wait and run.
    """

    def __init__(self, pool: Pool | RemotePool, deadline_s: float = MAX_HASH_WAIT_S) -> None:
        self._executor = PoolExecutor(pool=pool)
        self._deadline_s = deadline_s

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | Verdict:
        operation = operation_of(call, awaited=work is Work.AWAITED)
        result: str | Verdict = self._executor.run(
            operation, call, deadline=self._deadline_s, priority=work.value, key=client
        )
        return result
