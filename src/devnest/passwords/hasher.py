"""`PasswordHasher`: hashes and verifies passwords for a service, awaitable or blocking."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from devnest.passwords.argon2id import check_installed
from devnest.passwords.errors import UnusableHash
from devnest.passwords.runners import (
    MAX_HASH_WAIT_S,
    BlockingRunner,
    InlineRunner,
    PoolRunner,
    Runner,
    ThreadRunner,
    Work,
)
from devnest.passwords.scheme import (
    Guess,
    NewPassword,
    Scheme,
    Verdict,
    check_text,
    decoy,
    needs_rehash,
)
from devnest.passwords.stored import MAX_COST, MIN_COST
from devnest.pool import Pool, PoolError, RemotePool, usable_cpus

__all__ = ["DEFAULT_COST", "Hasher", "PasswordHasher", "SyncPasswordHasher"]

T = TypeVar("T")

DEFAULT_COST = 12  # of bcrypt: about 0.2 s


class Hasher:
    """Hashes new passwords, and verifies passwords against stored hashes of every known form.

    An unknown account takes as long as a wrong password. A stored hash of another scheme or cost
    takes its own time, until a sign-in replaces it.

    Args:
        runner: Where the work is done.
        cost: bcrypt's cost for new passwords.
        scheme: The scheme for new passwords.

    Raises:
        ValueError: The cost or the scheme is out of bounds.
        MissingExtra: The scheme is argon2id, and the extra `argon2` is not installed.
    """

    def __init__(self, runner: Runner, cost: int, scheme: str = Scheme.BCRYPT) -> None:
        if scheme not in tuple(Scheme):
            names = " or ".join(repr(known.value) for known in Scheme)
            raise ValueError(f"the scheme must be {names}, not {scheme!r}")
        if scheme == Scheme.ARGON2ID:
            check_installed()
        if type(cost) is not int or not MIN_COST <= cost <= MAX_COST:
            raise ValueError(
                f"the cost must be a whole number from {MIN_COST} to {MAX_COST}, not {cost!r}"
            )
        self._run = runner
        self._cost = cost
        self._scheme = str(scheme)
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

        Raises:
            PoolError: The pool refused or lost the work, usually `PoolFull` with a time to retry.
        """
        check_text("a password", password)
        return str(await self._run(NewPassword(password, self._cost, self._scheme), work, client))

    async def check(self, password: str, stored: str | None, *, client: str = "") -> Verdict:
        """Return whether the password is the one that was stored, and whether to replace the hash.

        Args:
            password: Of any length.
            stored: The stored form, or None where there is no account: then the answer is `WRONG`,
                after as much work.
            client: Whose request it is; a queue serves clients in turn.

        Raises:
            UnusableHash: The stored form has no known format or asks for too much work; raised
                after the work of a usual hash.
            PoolError: As for `hash`.
        """
        check_text("a password", password)
        checked = self._decoy if stored is None else stored
        check_text("a stored hash", checked)
        try:
            verdict = Verdict(
                int(await self._run(Guess(password, checked, self._cost), Work.AWAITED, client))
            )
        except UnusableHash:
            await self._run(Guess(password, self._decoy), Work.AWAITED, client)
            raise
        if stored is None:
            return Verdict.WRONG
        if verdict is Verdict.RIGHT and needs_rehash(stored, self._cost, self._scheme):
            return Verdict.OUTDATED
        return verdict

    async def verify(self, password: str, stored: str | None, *, client: str = "") -> bool:
        """Return whether the password is the one that was stored.

        Takes and raises what `check` takes and raises.
        """
        return bool(await self.check(password, stored, client=client))

    async def verify_and_update(
        self, password: str, stored: str | None, *, client: str = ""
    ) -> tuple[bool, str | None]:
        """Verify a password, and hash it anew if the stored hash should be replaced.

        Takes and raises what `check` takes and raises.

        Returns:
            Whether the password is right, and the hash to store instead of the present one. It is
            None if the present one is good or ignores a part of the password (`PARTIAL`), and if
            there is no time or memory for another hash; the next sign-in tries again.
        """
        verdict = await self.check(password, stored, client=client)
        if verdict is not Verdict.OUTDATED:
            return bool(verdict), None
        try:
            return True, await self.hash(password, client=client, work=Work.REHASH)
        except (PoolError, MemoryError):
            return True, None


class PasswordHasher(Hasher):
    """Hashes and verifies the passwords of a service.

    For example, with the pool of this machine::

        pool = Pool.shared()
        hasher = PasswordHasher(pool)

        async with pool:  # in the framework's lifespan
            stored = await hasher.hash("correct horse")
            right, new = await hasher.verify_and_update("correct horse", stored)

    New hashes are bcrypt's or argon2id's. Verified are also the hashes of Django, Werkzeug (Flask),
    passlib and Firebase; `devnest.passwords.stored` and `.foreign` have the list.

    Args:
        pool: Where hashes are computed, bcrypt in batches. To await the methods, start it on your
            event loop, by `async with`; threads may then use `sync` beside it. To use `sync` alone,
            do not start it. Without a pool, threads compute the hashes, one for each CPU and no
            batches.
        cost: bcrypt's cost for new passwords, 4 to 18. Each step doubles the time.
        scheme: `"bcrypt"`, or `"argon2id"` with the extra `argon2`.
        deadline: Seconds within which a pool has to be done with a hash. A pool that cannot be
            raises `PoolFull` immediately.

    Attributes:
        sync: The same methods, blocking.

    Raises:
        TypeError: The pool is none.
        ValueError: The cost or the scheme is out of bounds.
        MissingExtra: The scheme is argon2id, and the extra `argon2` is not installed.
    """

    def __init__(
        self,
        pool: Pool | RemotePool | None = None,
        *,
        cost: int = DEFAULT_COST,
        scheme: str = Scheme.BCRYPT,
        deadline: float = MAX_HASH_WAIT_S,
    ) -> None:
        runner: Runner
        blocking: Runner
        if pool is not None and not isinstance(pool, Pool | RemotePool):
            raise TypeError(f"pool must be a Pool, such as Pool.shared(), not {pool!r}")
        if pool is None:
            runner, blocking = ThreadRunner(usable_cpus()), InlineRunner()
        else:
            runner, blocking = PoolRunner(pool, deadline), BlockingRunner(pool, deadline)
        super().__init__(runner, cost, scheme)
        self.sync = SyncPasswordHasher(Hasher(blocking, cost, scheme))


class SyncPasswordHasher:
    """The methods of a `PasswordHasher` for code without an event loop; they block the thread.

    Without a pool, the calling thread computes the hash. With a pool that is not started, the first
    call starts it on an event loop of its own; then no other event loop can await it. Any thread
    may call, but not the one whose event loop runs the pool.
    """

    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher

    def hash(self, password: str, *, client: str = "") -> str:
        """Do what `PasswordHasher.hash` does."""
        return _result(self._hasher.hash(password, client=client))

    def check(self, password: str, stored: str | None, *, client: str = "") -> Verdict:
        """Do what `PasswordHasher.check` does."""
        return _result(self._hasher.check(password, stored, client=client))

    def verify(self, password: str, stored: str | None, *, client: str = "") -> bool:
        """Do what `PasswordHasher.verify` does."""
        return _result(self._hasher.verify(password, stored, client=client))

    def verify_and_update(
        self, password: str, stored: str | None, *, client: str = ""
    ) -> tuple[bool, str | None]:
        """Do what `PasswordHasher.verify_and_update` does."""
        return _result(self._hasher.verify_and_update(password, stored, client=client))


def _result(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never suspends, since its runner blocks."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("a blocking runner has suspended")
