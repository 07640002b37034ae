"""Passwords on a real pool."""

import asyncio
from pathlib import Path

import argon2
import psutil
import pytest

from devnest.bcrypt import LANES
from devnest.hashing import GuardedPoolRunner
from devnest.passwords import (
    Guess,
    Hasher,
    NewPassword,
    Scheme,
    UnusableHash,
    Verdict,
    Work,
    hash_password,
    verify_password,
)
from devnest.passwords.operations import compute_batch
from devnest.pool import Pool, PoolFull, PoolServer


def test_one_bad_call_spoils_no_other() -> None:
    """In a batch of new passwords and guesses each call has its own result."""
    stored = hash_password("secret", 4)
    guesses = [
        Guess("secret", stored),
        Guess("secret", "garbage"),
        Guess("wrong", stored),
        Guess("x" * 100, stored),
    ]
    new = [NewPassword("a", 4), NewPassword("b", 99), NewPassword("c" * 100, 4)]
    calls: list[NewPassword | Guess] = [*guesses[:3], new[0], guesses[3], *new[1:]]
    right, unusable, wrong, first, too_long, second, third = compute_batch(
        [(call,) for call in calls]
    )
    assert right is Verdict.RIGHT
    assert isinstance(unusable, UnusableHash)
    assert wrong is Verdict.WRONG
    assert too_long is Verdict.WRONG
    assert isinstance(second, ValueError)
    assert verify_password("a", str(first))
    assert verify_password("c" * 100, str(third))


async def test_new_passwords_and_guesses_share_a_batch() -> None:
    """And whoever has a hash replaced does not keep them waiting."""
    async with Pool(workers=1) as pool:
        hasher = Hasher(GuardedPoolRunner(pool), 4)
        stored = await hasher.hash("secret")
        first = asyncio.create_task(hasher.hash("busy"))
        while not pool.stats().busy and not first.done():
            await asyncio.sleep(0)
        before = sum(pool.stats().batch_counts)
        calls = [
            hasher.hash("new"),
            hasher.verify("secret", stored),
            hasher.hash("old", work=Work.REHASH),
        ]
        await asyncio.gather(first, *calls)
        assert LANES == 1 or sum(pool.stats().batch_counts) - before <= 2


async def test_many_at_once_share_the_lanes_and_get_their_own_answers() -> None:
    """Two of three passwords are wrong, and each caller learns of its own."""
    async with Pool(workers=2) as pool:
        hasher = Hasher(GuardedPoolRunner(pool), 4)
        stored = await asyncio.gather(*(hasher.hash(f"password {n}") for n in range(30)))
        matches = await asyncio.gather(
            *(hasher.verify(f"password {n if n % 3 == 0 else -1}", stored[n]) for n in range(30))
        )
        assert matches == [n % 3 == 0 for n in range(30)]
        assert not await hasher.verify("password 0", None)
        with pytest.raises(UnusableHash):
            await hasher.verify("password 0", "garbage")
        assert LANES == 1 or pool.stats().mean_batch > 1


async def test_argon2id_goes_one_by_one() -> None:
    """Together they would gain nothing, and each would wait for all."""
    light = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret")
    async with Pool(workers=1) as pool:
        hasher = Hasher(GuardedPoolRunner(pool), 4, Scheme.ARGON2ID)
        verified = await asyncio.gather(
            *(hasher.verify(word, light) for word in ["secret", "wrong"] * 5)
        )
        assert verified == [True, False] * 5
        assert pool.stats().mean_batch == 1
        assert await hasher.verify("secret", await hasher.hash("secret"))
        with pytest.raises(UnusableHash):
            await hasher.verify("secret", light.replace("m=8", "m=8388608"))


async def test_a_hash_survives_the_death_of_its_worker(tmp_path: Path) -> None:
    """And that of the pool server: the operations are pure."""
    tmp_path.chmod(0o700)
    strangers = psutil.Process().children()  # a DevNest that other tests share
    async with (
        PoolServer(tmp_path / "pool.sock", workers=1) as server,
        Pool.connect(server.url) as pool,
    ):
        hasher = Hasher(GuardedPoolRunner(pool), 12)
        hashing = asyncio.create_task(hasher.hash("secret"))
        while not (busy := server.stats().busy):
            await asyncio.sleep(0.001)
        assert busy == 1
        for child in psutil.Process().children():
            if child not in strangers:
                child.kill()
        assert verify_password("secret", await hashing)


async def test_whoever_floods_is_refused_before_any_work_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After one refusal by the pool, for a while without asking it, and told to come back when
    the pool said.
    """
    monkeypatch.setattr("devnest.hashing.MAX_LOCAL_REFUSAL_S", 600.0)
    monkeypatch.setattr("devnest.pool.core.estimates.DEFAULT_RETRY_AFTER_S", 900.0)
    async with Pool(workers=1, max_queue=4) as pool:
        runner = GuardedPoolRunner(pool)
        hasher = Hasher(runner, 10)
        flood = [asyncio.create_task(hasher.hash("secret", client="flooder")) for _ in range(20)]
        done = await asyncio.gather(*flood[5:], return_exceptions=True)
        assert any(isinstance(result, PoolFull) for result in done)
        with pytest.raises(PoolFull) as caught:
            hasher.raise_if_refused("flooder")
        assert 600 < caught.value.retry_after <= 900
        hasher.raise_if_refused("honest")
        assert await hasher.verify(
            "secret", await hasher.hash("secret", client="honest"), client="honest"
        )
        await asyncio.gather(*flood, return_exceptions=True)


async def test_whoever_was_refused_comes_to_the_pool_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each when the one before has come there, or has got lost on the way.

    After a while as before.
    """
    monkeypatch.setattr("devnest.hashing.MAX_LOCAL_REFUSAL_S", 0.0)
    monkeypatch.setattr("devnest.hashing.MAX_ADMISSION_S", 600.0)
    async with Pool(workers=1, max_queue=1) as pool:
        runner = GuardedPoolRunner(pool)
        hasher = Hasher(runner, 4)
        for _ in range(2):
            hasher.raise_if_refused("flooder")  # nobody has been refused
        flood = [hasher.hash("secret", client="flooder") for _ in range(10)]
        assert any(
            isinstance(result, PoolFull)
            for result in await asyncio.gather(*flood, return_exceptions=True)
        )
        hasher.raise_if_refused("flooder")
        with pytest.raises(PoolFull) as caught:
            hasher.raise_if_refused("flooder")
        assert caught.value.retry_after > 0
        hasher.raise_if_refused("honest")
        await hasher.hash("secret", client="flooder")
        hasher.raise_if_refused("flooder")
        runner._refused["flooder"].admitting_until = 0.0  # that one never came
        hasher.raise_if_refused("flooder")
        runner._refused["flooder"].admitting_until = runner._refused["flooder"].forget_at = 0.0
        for _ in range(2):
            hasher.raise_if_refused("flooder")


async def test_a_cancelled_hash_leaves_the_queue() -> None:
    """Its client has gone."""
    async with Pool(workers=1) as pool:
        hasher = Hasher(GuardedPoolRunner(pool), 12)
        first = asyncio.create_task(hasher.hash("secret"))
        while not pool.stats().busy:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(hasher.verify("secret", None))
        while not pool.stats().queued:
            await asyncio.sleep(0.001)
        second.cancel()
        await asyncio.wait([second])
        assert pool.stats().queued == 0
        await first
