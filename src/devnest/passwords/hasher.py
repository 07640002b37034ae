"""Passwords for a service: the same functions as awaitables, on whatever runs them."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Protocol

from devnest.passwords.argon2id import check_installed
from devnest.passwords.errors import UnusableHash
from devnest.passwords.scheme import Guess, NewPassword, Scheme, compute, decoy, needs_rehash

__all__ = ["Hasher", "InlineRunner", "Runner", "ThreadRunner", "Work"]


class Work(Enum):
    """What a hash is for; where there is a queue, lower goes first."""

    AWAITED = 0  # by whoever signs in, registers or changes a password: one queue for all of them
    REHASH = 10  # nobody waits for it

    @property
    def priority(self) -> int:
        """Its place in the queue."""
        return self.value


class Runner(Protocol):
    """What runs the work: `compute`, awaited; what for and for whom is a hint."""

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | bool: ...

    def check_room(self, client: str) -> None:
        """Raise at once what a call for this client would raise for want of room; costs nothing."""


class InlineRunner:
    """Runs the work on the event loop, which answers nobody meanwhile: the experiment's "before"."""

    def check_room(self, client: str) -> None:
        """There is no queue."""

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | bool:
        return compute(call)


class ThreadRunner:
    """Runs the work on threads of its own, so that a burst of hashes does not take the event loop's default ones.

    At most `threads` run at once; the others wait in order. bcrypt releases the GIL.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="hashing")

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | bool:
        return await asyncio.get_running_loop().run_in_executor(self._executor, compute, call)

    def check_room(self, client: str) -> None:
        """The queue has no bound but the connections there are."""

    def close(self) -> None:
        """Drop what waits; what runs ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Hasher:
    """Hashes new passwords by one policy, and verifies so that an unknown account takes as long as a wrong password.

    The policy: a scheme, and bcrypt's cost. Stored hashes of either scheme are verified; one that is not by the policy
    takes its own time, until a sign-in has it replaced. Raises `MissingExtra` for argon2id without the extra `argon2`.
    """

    def __init__(self, runner: Runner, cost: int, scheme: Scheme = Scheme.BCRYPT) -> None:
        if scheme is Scheme.ARGON2ID:
            check_installed()
        self._run = runner
        self._cost = cost
        self._scheme = scheme.value
        self._decoy = decoy(cost, scheme)

    def check_room(self, client: str) -> None:
        """Raise the runner's refusal, where it is known already, before a request costs anything."""
        self._run.check_room(client)

    async def hash(self, password: str, *, client: str = "", work: Work = Work.AWAITED) -> str:
        """The stored form of a new password. `client`: whose request it is; clients take turns."""
        return str(await self._run(NewPassword(password, self._cost, self._scheme), work, client))

    def is_below_policy(self, stored: str) -> bool:
        """Whether a stored hash ought to be replaced."""
        return needs_rehash(stored, self._cost, self._scheme)

    async def verify(self, password: str, stored: str | None, *, client: str = "") -> bool:
        """Whether the password is the stored one; `stored` is None where there is no account."""
        checked = self._decoy if stored is None else stored
        try:
            matches = await self._run(Guess(password, checked), Work.AWAITED, client)
        except UnusableHash:
            await self._run(Guess(password, self._decoy), Work.AWAITED, client)
            raise
        return matches is True and stored is not None
