"""Passwords for a service: the same functions as awaitables, on whatever runs them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Protocol, TypeVar

from devnest.passwords.errors import UnusableHash
from devnest.passwords.scheme import Scheme, decoy, hash_password, needs_rehash, verify_password

__all__ = ["Hasher", "InlineRunner", "Runner", "ThreadRunner", "Work"]

T = TypeVar("T")


class Work(Enum):
    """What a hash is for; where there is a queue, lower goes first."""

    SIGN_IN = 0
    REGISTER = 1
    REHASH = 10  # nobody waits for it

    @property
    def priority(self) -> int:
        """Its place in the queue."""
        return self.value


class Runner(Protocol):
    """What runs the work: a call of a function with arguments, awaited; for whom and what for is a hint."""

    async def __call__(self, function: Callable[..., T], /, *arguments: object, work: Work, client: str) -> T: ...

    def check_room(self, client: str) -> None:
        """Raise at once what a call for this client would raise for want of room; costs nothing."""


class InlineRunner:
    """Runs the work on the event loop, which answers nobody meanwhile: the experiment's "before"."""

    def check_room(self, client: str) -> None:
        """There is no queue."""

    async def __call__(self, function: Callable[..., T], /, *arguments: object, work: Work, client: str) -> T:
        return function(*arguments)


class ThreadRunner:
    """Runs the work on threads of its own, so that a burst of hashes does not take the event loop's default ones.

    At most `threads` run at once; the others wait in order. bcrypt releases the GIL.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="hashing")

    async def __call__(self, function: Callable[..., T], /, *arguments: object, work: Work, client: str) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    def check_room(self, client: str) -> None:
        """The queue has no bound but the connections there are."""

    def close(self) -> None:
        """Drop what waits; what runs ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Hasher:
    """Hashes new passwords by one policy, and verifies so that an unknown account takes as long as a wrong password.

    The policy: a scheme, and bcrypt's cost. Stored hashes of either scheme are verified; one that is not by the policy
    takes its own time, until a sign-in has it replaced.
    """

    def __init__(self, runner: Runner, cost: int, scheme: Scheme = Scheme.BCRYPT) -> None:
        self._run = runner
        self._cost = cost
        self._scheme = scheme.value
        self._decoy = decoy(cost, scheme)

    def check_room(self, client: str) -> None:
        """Raise the runner's refusal, where it is known already, before a request costs anything."""
        self._run.check_room(client)

    async def hash(self, password: str, *, client: str = "", work: Work = Work.REGISTER) -> str:
        """The stored form of a new password. `client`: whose request it is; clients take turns."""
        return await self._run(hash_password, password, self._cost, self._scheme, work=work, client=client)

    def is_below_policy(self, stored: str) -> bool:
        """Whether a stored hash ought to be replaced."""
        return needs_rehash(stored, self._cost, self._scheme)

    async def verify(self, password: str, stored: str | None, *, client: str = "") -> bool:
        """Whether the password is the stored one; `stored` is None where there is no account."""
        checked = self._decoy if stored is None else stored
        try:
            matches = await self._run(verify_password, password, checked, work=Work.SIGN_IN, client=client)
        except UnusableHash:
            await self._run(verify_password, password, self._decoy, work=Work.SIGN_IN, client=client)
            raise
        return matches and stored is not None
