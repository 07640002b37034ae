"""Passwords for a service."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from devnest.passwords import (
    Guess,
    Hasher,
    InlineRunner,
    NewPassword,
    Runner,
    Scheme,
    ThreadRunner,
    UnusableHash,
    Verdict,
    Work,
)


@pytest.fixture(params=["inline", "thread"])
async def runner(request: pytest.FixtureRequest) -> AsyncIterator[Runner]:
    """Each way to run the work."""
    if request.param == "inline":
        yield InlineRunner()
        return
    threads = ThreadRunner(2)
    yield threads
    threads.close()


async def test_a_password_matches_itself_only(runner: Runner) -> None:
    """Hash and verify, wherever they run."""
    hasher = Hasher(runner, 4)
    stored = await hasher.hash("secret")
    assert await hasher.verify("secret", stored)
    assert not await hasher.verify("Secret", stored)


@pytest.mark.parametrize(
    ("scheme", "work"),
    [(Scheme.BCRYPT, "$2b$05$"), (Scheme.ARGON2ID, "$argon2id$v=19$m=65536,t=3,p=4$")],
)
async def test_without_an_account_the_same_work_is_done(scheme: Scheme, work: str) -> None:
    """The unknown account's check runs the same function on a hash of the same cost, and fails."""
    seen: list[str] = []

    class Recorder(InlineRunner):
        async def __call__(
            self, call: NewPassword | Guess, work: Work, client: str
        ) -> str | Verdict:
            if isinstance(call, Guess):
                seen.append(call.stored)
            return await super().__call__(call, work, client)

    hasher = Hasher(Recorder(), 5, scheme)
    assert not await hasher.verify("secret", None)
    assert not await hasher.verify("secret", await hasher.hash("another"))
    assert [stored[: len(work)] for stored in seen] == [work, work]
    assert len(seen[0]) == len(seen[1])


async def test_a_broken_stored_hash_costs_the_same_and_is_told() -> None:
    """Nobody learns from the time that an account is broken.

    The operator learns it from the error.
    """
    with pytest.raises(UnusableHash):
        await Hasher(InlineRunner(), 4).verify("secret", "garbage")


async def test_threads_are_their_own_and_bounded() -> None:
    """Never more than asked for, and none of the event loop's."""
    before = set(threading.enumerate())
    runner = ThreadRunner(2)
    hasher = Hasher(runner, 6)
    stored = await asyncio.gather(*(hasher.hash(f"password {n}") for n in range(12)))
    threads = set(threading.enumerate()) - before
    runner.close()
    assert len(set(stored)) == 12
    assert 1 <= len(threads) <= 2
    assert all(thread.name.startswith("hashing") for thread in threads)
