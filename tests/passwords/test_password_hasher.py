"""`PasswordHasher`, as a service of others uses it: with each pool and alone."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import bcrypt
import pytest

from devnest.passwords import (
    Guess,
    Hasher,
    InlineRunner,
    NewPassword,
    PasswordHasher,
    UnusableHash,
    Verdict,
    Work,
    is_known,
    needs_rehash,
)
from devnest.passwords.runners import BlockingRunner
from devnest.pool import Pool, PoolClosed, PoolError, PoolFull, PoolServer, RemotePool
from tests.support import PATIENCE_S, passes_in_a_fork

FOREIGN = "bcrypt$" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


@pytest.fixture(params=["alone", "own", "shared"])
async def pool(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Pool | RemotePool | None]:
    """Where the hashes are computed."""
    if request.param == "alone":
        yield None
        return
    tmp_path.chmod(0o700)
    made = Pool(workers=1) if request.param == "own" else Pool.shared(tmp_path / "p", workers=1)
    async with made as opened:
        yield opened


async def test_hash_verify_and_update(pool: Pool | RemotePool | None) -> None:
    """The three methods, awaited."""
    hasher = PasswordHasher(pool, cost=4)
    stored = await hasher.hash("secret")
    assert stored.startswith("$2b$04$")
    assert await hasher.verify("secret", stored)
    assert not await hasher.verify("Secret", stored)
    assert not await hasher.verify("secret", None)
    assert await hasher.verify_and_update("secret", stored) == (True, None)
    assert await hasher.verify_and_update("wrong", stored) == (False, None)
    assert await hasher.verify_and_update("secret", None) == (False, None)
    right, new = await hasher.verify_and_update("secret", FOREIGN)
    assert right
    assert new is not None
    assert await hasher.check("secret", new) is Verdict.RIGHT
    assert await PasswordHasher(pool, cost=5).check("secret", new) is Verdict.OUTDATED
    with pytest.raises(UnusableHash):
        await hasher.verify("secret", "garbage")


async def test_sync_twin_from_other_threads(pool: Pool | RemotePool | None) -> None:
    """Threads use the pool that the event loop has started."""
    hasher = PasswordHasher(pool, cost=4)

    def use() -> tuple[bool, str | None]:
        stored = hasher.sync.hash("secret", client="someone")
        assert hasher.sync.verify("secret", stored)
        assert not hasher.sync.verify("secret", None)
        assert hasher.sync.check("wrong", stored) is Verdict.WRONG
        with pytest.raises(UnusableHash):
            hasher.sync.verify("secret", "garbage")
        return hasher.sync.verify_and_update("secret", FOREIGN)

    for right, new in await asyncio.gather(*(asyncio.to_thread(use) for _ in range(4))):
        assert right
        assert await hasher.verify("secret", new)


async def test_sync_twin_on_the_pool_s_own_event_loop_is_an_error() -> None:
    """It would wait for ever."""
    async with Pool(workers=1) as pool:
        hasher = PasswordHasher(pool, cost=4)
        with pytest.raises(RuntimeError, match="event loop"):
            hasher.sync.hash("secret")
        assert await hasher.verify("secret", await hasher.hash("secret"))


async def test_a_full_pool_does_not_undo_a_sign_in() -> None:
    """The next sign-in replaces the hash."""

    class Full(InlineRunner):
        async def __call__(
            self, call: NewPassword | Guess, work: Work, client: str
        ) -> str | Verdict:
            if work is Work.REHASH:
                raise PoolFull(1.0)
            return await super().__call__(call, work, client)

    assert await Hasher(Full(), 4).verify_and_update("secret", FOREIGN) == (True, None)


@pytest.mark.parametrize(
    "options",
    [{"cost": 3}, {"cost": 19}, {"cost": "12"}, {"cost": 12.0}, {"cost": None}, {"scheme": "md5"},
     {"scheme": None}, {"pool": 12}, {"pool": Pool.shared}],
)  # fmt: skip
def test_a_bad_option_is_refused(options: dict[str, object]) -> None:
    """When the hasher is made, not at the first sign-in, and with the values that are accepted."""
    with pytest.raises((ValueError, TypeError), match=r"from 4 to 18|'bcrypt' or|Pool.shared\(\)"):
        PasswordHasher(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [b"secret", 5, None])
async def test_what_is_no_text_is_refused(wrong: object) -> None:
    """pyca/bcrypt returns bytes, and a column may have kept them."""
    hasher = PasswordHasher(cost=4)
    for work in (
        lambda: hasher.sync.hash(wrong),  # type: ignore[arg-type]
        lambda: hasher.sync.verify(wrong, None),  # type: ignore[arg-type]
        lambda: hasher.sync.verify("secret", wrong or 5),  # type: ignore[arg-type]
        lambda: is_known(wrong),  # type: ignore[arg-type]
        lambda: needs_rehash(wrong, 4),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match=r"must be str, not \w+($|; decode it)"):
            work()


async def test_a_pool_that_was_not_started_says_so() -> None:
    """The lifespan was forgotten."""
    for pool in (Pool.shared("/tmp/nobody-starts-this"), Pool(1)):  # noqa: S108
        with pytest.raises(PoolClosed, match="async with"):
            await PasswordHasher(pool, cost=4).hash("secret")


async def test_argon2id() -> None:
    """The other scheme, and bcrypt's hashes are replaced by it."""
    hasher = PasswordHasher(scheme="argon2id")
    right, new = await hasher.verify_and_update("secret", FOREIGN)
    assert right
    assert new is not None
    assert new.startswith("$argon2id$")
    assert await hasher.verify_and_update("secret", new) == (True, None)


async def test_a_guess_of_a_costly_hash_delays_no_other() -> None:
    """It runs alone, on another worker."""
    costly = (await PasswordHasher(cost=12).hash("secret")).replace("$12$", "$16$")
    async with Pool(workers=1) as pool:
        hasher = PasswordHasher(pool, cost=4)
        stored = await hasher.hash("secret")
        first = asyncio.create_task(hasher.verify("secret", stored))
        guesses = [asyncio.create_task(hasher.verify("secret", stored)) for _ in range(3)]
        slow = asyncio.create_task(hasher.verify("secret", costly))
        assert all(await asyncio.gather(first, *guesses))
        assert not slow.done()
        slow.cancel()


async def test_one_hasher_serves_one_event_loop_and_threads(tmp_path: Path) -> None:
    """The blocking methods started the pool, so no other event loop can await it."""
    tmp_path.chmod(0o700)
    async with PoolServer(tmp_path / "p", workers=1) as server:
        for pool in (Pool.connect(server.url), Pool(1)):
            executor = PasswordHasher(pool, cost=4)
            stored = await asyncio.to_thread(executor.sync.hash, "secret")
            with pytest.raises(PoolClosed, match="event loop"):
                await executor.verify("secret", stored)
            assert await asyncio.to_thread(executor.sync.verify, "secret", stored)
            blocking = executor.sync._hasher._run
            assert isinstance(blocking, BlockingRunner)
            await asyncio.to_thread(blocking._executor.shutdown)


def test_a_start_that_failed_is_tried_again(tmp_path: Path) -> None:
    """Within the deadline of the call, and with the next call."""
    hasher = PasswordHasher(
        Pool.shared(tmp_path / "no" / "none" / "p", workers=1), cost=4, deadline=0.5
    )
    with pytest.raises(PoolError):
        hasher.sync.hash("secret")
    (tmp_path / "no" / "none").mkdir(mode=0o700, parents=True)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            stored = hasher.sync.hash("secret")
            break
        except PoolError:
            assert time.monotonic() < deadline
    hasher = PasswordHasher(Pool.shared(tmp_path / "no" / "none" / "p", workers=1), cost=4)
    assert hasher.sync.verify("secret", stored)


def test_blocking_calls_before_and_after_a_fork(tmp_path: Path) -> None:
    """As under gunicorn with `--preload`: the child connects by itself."""
    tmp_path.chmod(0o700)
    hasher = PasswordHasher(Pool.shared(tmp_path / "p", workers=1), cost=4)
    stored = hasher.sync.hash("secret")
    assert passes_in_a_fork(lambda: hasher.sync.verify("secret", stored))
    assert hasher.sync.verify("secret", stored)


def test_threads_after_a_fork() -> None:
    """A process that gunicorn forked after it had imported and used the service."""
    hasher = PasswordHasher(cost=4)
    stored = asyncio.run(hasher.hash("secret"))
    assert passes_in_a_fork(lambda: asyncio.run(hasher.verify("secret", stored)))


SCRIPT = """
from devnest.passwords import PasswordHasher
from devnest.pool import Pool

if __name__ == "__main__":
    hasher = PasswordHasher(Pool.shared({path!r}, workers=1), cost=4).sync
    stored = hasher.hash("secret")
    print(hasher.verify("secret", stored), hasher.verify("other", stored))
"""


def test_a_script_without_an_event_loop(tmp_path: Path) -> None:
    """The first call connects, and the script ends by itself."""
    tmp_path.chmod(0o700)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(path=str(tmp_path / "p")))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True False\n", "")
