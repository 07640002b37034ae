"""Hashing and verifying for a service: awaitable, on the event loop, on threads or in a pool."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Protocol

from devnest.passwords.argon2id import check_installed
from devnest.passwords.errors import UnusableHash
from devnest.passwords.scheme import Guess, NewPassword, Scheme, compute, decoy, needs_rehash

__all__ = ["Hasher", "InlineRunner", "Runner", "ThreadRunner", "Work"]


class Work(Enum):
    """What a hash is for. The value is its priority in a queue, where lower goes first."""

    AWAITED = 0  # a client waits for it, to sign in, to register or to change a password
    REHASH = 10  # the replacement of a stored hash, which nobody waits for

    @property
    def priority(self) -> int:
        """Return its priority in a queue."""
        return self.value


class Runner(Protocol):
    """Runs `compute` somewhere, and awaits its result.

    `work` and `client`, which say what and whom the work is for, may order a queue.
    """

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | bool: ...

    def raise_if_refused(self, client: str) -> None:
        """Raise the error that a call for this client would raise now because a queue is full."""


class InlineRunner:
    """Runs the work on the event loop, which serves nobody else meanwhile.

    It is the "before" of the experiment.
    """

    def raise_if_refused(self, client: str) -> None:
        """Do nothing: there is no queue."""

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | bool:
        return compute(call)


class ThreadRunner:
    """Runs the work on threads of its own, so that the event loop's default threads stay free.

    bcrypt releases the GIL while it hashes.

    Args:
        threads: How many hashes run at once; the others wait in order.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="hashing")

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | bool:
        return await asyncio.get_running_loop().run_in_executor(self._executor, compute, call)

    def raise_if_refused(self, client: str) -> None:
        """Do nothing: the queue has no bound."""

    def close(self) -> None:
        """Drop the work that waits, and let running work end by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Hasher:
    """Hashes new passwords, and verifies passwords against stored hashes of either scheme.

    An unknown account takes as long as a wrong password. A stored hash of another scheme or cost
    takes its own time, until a sign-in replaces it.

    Args:
        runner: Where the work is done.
        cost: bcrypt's cost for new passwords.
        scheme: The scheme for new passwords.

    Raises:
        MissingExtra: The scheme is argon2id, and the extra `argon2` is not installed.
    """

    def __init__(self, runner: Runner, cost: int, scheme: Scheme = Scheme.BCRYPT) -> None:
        if scheme is Scheme.ARGON2ID:
            check_installed()
        self._run = runner
        self._cost = cost
        self._scheme = scheme.value
        self._decoy = decoy(cost, scheme)

    def raise_if_refused(self, client: str) -> None:
        """Raise the error that a call for this client would raise now because a queue is full.

        A server asks this before it spends anything else on a request.
        """
        self._run.raise_if_refused(client)

    async def hash(self, password: str, *, client: str = "", work: Work = Work.AWAITED) -> str:
        """Hash a new password.

        Args:
            password: Of any length.
            client: Whose request it is; a queue serves clients in turn.
            work: What the hash is for.

        Returns:
            The stored form.
        """
        return str(await self._run(NewPassword(password, self._cost, self._scheme), work, client))

    def is_below_policy(self, stored: str) -> bool:
        """Return whether a stored hash should be replaced by a new one."""
        return needs_rehash(stored, self._cost, self._scheme)

    async def verify(self, password: str, stored: str | None, *, client: str = "") -> bool:
        """Return whether the password is the one that was stored.

        Args:
            password: Of any length.
            stored: The stored form, or None where there is no account: then the answer is False,
                after as much work.
            client: Whose request it is; a queue serves clients in turn.

        Raises:
            UnusableHash: The stored form has no known format or asks for too much work; raised
            after
                the work of a usual hash.
        """
        checked = self._decoy if stored is None else stored
        try:
            matches = await self._run(Guess(password, checked), Work.AWAITED, client)
        except UnusableHash:
            await self._run(Guess(password, self._decoy), Work.AWAITED, client)
            raise
        return matches is True and stored is not None
