"""Stored hashes below the policy are replaced after a good sign-in, and nothing else changes."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from functools import partial

import argon2
import asyncpg
import httpx
import psutil
import pytest

from devnest.api import Rehasher
from devnest.passwords import (
    Guess,
    Hasher,
    InlineRunner,
    NewPassword,
    Scheme,
    Verdict,
    Work,
    hash_password,
    verify_password,
)
from devnest.pool import PoolFull
from devnest.store import Account, Database, change_password, create_account, find_login
from tests.support import (
    PASSWORD,
    PATIENCE_S,
    DevNest,
    data_directory,
    eventually,
    running,
    sign_in,
    sign_up,
)

LIGHT = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HASH = "SELECT password_hash FROM accounts WHERE username = $1"
STORE = "UPDATE accounts SET password_hash = $2 WHERE username = $1"


def stored_hash(devnest: DevNest, username: str, *, but: str = "") -> str:
    """The account's stored hash, once it is another than `but`."""
    found = but

    def is_another() -> bool:
        nonlocal found
        found = str(devnest.query(HASH, username)[0]["password_hash"])
        return found != but

    eventually(is_another)
    return found


def rehashes(devnest: DevNest, username: str) -> int:
    """How many the audit log knows of."""
    sql = (
        "SELECT count(*) FROM audit_log JOIN accounts a ON a.id = account_id"
        " WHERE a.username = $1 AND event = 'password_rehash' AND succeeded"
    )
    count: int = devnest.query(sql, username)[0]["count"]
    return count


@pytest.fixture(scope="module")
def argon2id_devnest() -> Iterator[DevNest]:
    """One whose policy is argon2id, told by the environment."""
    with (
        data_directory() as path,
        running(path, environment={"DEVNEST_HASH_SCHEME": "argon2id"}) as devnest,
    ):
        yield devnest


def test_argon2id_is_replaced_by_bcrypt(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """After a good sign-in only, once, and the password stays what it was."""
    sign_up(client, username)
    devnest.query(STORE, username, old := LIGHT.hash(PASSWORD))
    wrong = {"username": username, "password": "wrong password"}
    assert client.post("/api/v1/auth/login", json=wrong).status_code == 401
    assert stored_hash(devnest, username) == old
    sign_in(client, username)
    new = stored_hash(devnest, username, but=old)
    assert new.startswith("$2b$04$")
    assert verify_password(PASSWORD, new)
    sign_in(client, username)
    assert stored_hash(devnest, username) == new
    eventually(lambda: rehashes(devnest, username) == 1)
    assert client.get("/api/v1/users/me").status_code == 200


def test_bcrypt_is_replaced_by_argon2id(argon2id_devnest: DevNest, username: str) -> None:
    """New accounts have argon2id at once; a sign-in to one with bcrypt brings it there."""
    with argon2id_devnest.client() as client:
        sign_up(client, username)
        assert stored_hash(argon2id_devnest, username).startswith("$argon2id$v=19$m=65536,t=3,p=4$")
        argon2id_devnest.query(STORE, username, old := hash_password(PASSWORD, 4))
        sign_in(client, username)
        new = stored_hash(argon2id_devnest, username, but=old)
        assert new.startswith("$argon2id$")
        sign_in(client, username)
        unknown = client.post(
            "/api/v1/auth/login", json={"username": f"x{username[1:]}", "password": PASSWORD}
        )
        assert unknown.status_code == 401
    assert PASSWORD not in str(argon2id_devnest.query("SELECT * FROM audit_log"))


@pytest.mark.skipif(
    sys.platform != "linux", reason="Linux alone bounds the memory of a running process"
)
def test_without_memory_for_a_hash_the_client_is_told_to_come_back(
    argon2id_devnest: DevNest, username: str
) -> None:
    """503 with `Retry-After`, for a sign-in and a registration.

    The worker lives, and goes on when there is memory.
    """
    with argon2id_devnest.client() as client:
        sign_up(client, username)
        (pool,) = (
            p
            for p in argon2id_devnest.descendants()
            if "devnest.cluster.hashing_pool" in p.cmdline()
        )
        (worker,) = pool.children()
        unbounded = worker.rlimit(psutil.RLIMIT_AS)
        worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + 32 * 1024 * 1024, unbounded[1]))
        other = {
            "username": f"x{username[1:]}",
            "email": f"x{username}@example.org",
            "password": PASSWORD,
        }
        for path, body in (
            ("login", {"username": username, "password": PASSWORD}),
            ("register", other),
        ):
            answer = client.post(f"/api/v1/auth/{path}", json=body)
            assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1"), (
                answer.text
            )
            assert answer.json()["type"] == "urn:devnest:memory"
        worker.rlimit(psutil.RLIMIT_AS, unbounded)
        sign_in(client, username)
        assert client.post("/api/v1/auth/register", json=other).status_code == 201
        assert pool.children() == [worker]


def test_a_hash_that_asks_for_too_much_is_no_way_to_keep_a_server_busy(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """It is refused before any work, and is no sign-in; the answer does not say why."""
    sign_up(client, username)
    devnest.query(STORE, username, LIGHT.hash(PASSWORD).replace("m=8,", "m=4194304,"))
    answer = client.post("/api/v1/auth/login", json={"username": username, "password": PASSWORD})
    assert answer.status_code == 500
    assert (
        answer.json()["detail"] == "the server failed; the log has the reason under this request id"
    )
    assert "KiB" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/auth/password/change", {"current": PASSWORD, "new": "a new staple"}),
        ("DELETE", "/api/v1/users/me", {"password": PASSWORD}),
    ],
)
async def test_a_rehash_does_not_get_in_the_way_of_a_change(
    devnest: DevNest, username: str, method: str, path: str, body: dict[str, str]
) -> None:
    """One that is stored while the change computes is another hash of the same password: the
    change holds.
    """
    with devnest.client() as client:
        await asyncio.to_thread(sign_up, client, username)
        changed = await asked_meanwhile(
            devnest, username, PASSWORD, lambda: client.request(method, path, json=body)
        )
        assert changed.status_code == (200 if method == "POST" else 204)
        login = {"username": username, "password": body.get("new", PASSWORD)}
        status = (
            await asyncio.to_thread(client.post, "/api/v1/auth/login", json=login)
        ).status_code
        assert status == (200 if method == "POST" else 401)


@pytest.mark.parametrize(("password", "status"), [(PASSWORD, 200), ("a new staple", 401)])
async def test_a_sign_in_is_by_the_password_that_is_there_in_the_end(
    devnest: DevNest, client: httpx.Client, username: str, password: str, status: int
) -> None:
    """A rehash in between does no harm.

    Who gave a password that is another by now gets no session.
    """
    await asyncio.to_thread(sign_up, client, username)
    login = {"username": username, "password": PASSWORD}
    ask = partial(client.post, "/api/v1/auth/login", json=login)
    answer = await asked_meanwhile(devnest, username, password, ask)
    assert answer.status_code == status
    sessions = (await asyncio.to_thread(client.get, "/api/v1/auth/sessions")).json()
    assert len(sessions) == (2 if status == 200 else 1)


async def asked_meanwhile(
    devnest: DevNest, username: str, password: str, ask: Callable[[], httpx.Response]
) -> httpx.Response:
    """The answer to a request that read the account's hash before one of `password` took its
    place.
    """
    socket_dir = (devnest.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[4]
    connection = await asyncpg.connect(user="devnest", database="devnest", host=socket_dir)
    try:
        async with connection.transaction():
            await connection.execute(STORE, username, hash_password(password, 4))
            asked = asyncio.create_task(asyncio.to_thread(ask))
            waits = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND $1 = ANY(pg_blocking_pids(pid)))"
            while not await connection.fetchval(waits, connection.get_server_pid()):
                await asyncio.sleep(0.01)
        return await asked
    finally:
        await connection.close()


class Gate(InlineRunner):
    """Runs a rehash when it is let; fails as it is told."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0
        self.failure: Exception | None = None

    async def __call__(self, call: NewPassword | Guess, work: Work, client: str) -> str | Verdict:
        assert work is Work.REHASH
        self.waiting += 1
        await self.open.wait()
        if self.failure:
            raise self.failure
        return await super().__call__(call, work, client)


@pytest.fixture
async def account(database: Database, username: str) -> tuple[Account, str]:
    """One of its own, and its hash, which is below the policy of cost 5."""
    old = hash_password(PASSWORD, 4)
    return await create_account(database, username, f"{username}@example.org", old), old


async def settle(rehasher: Rehasher) -> None:
    while rehasher._tasks:
        await asyncio.wait(rehasher._tasks.values())


async def test_a_changed_password_is_not_overwritten(
    database: Database, account: tuple[Account, str]
) -> None:
    """What is stored is compared in the statement that replaces it."""
    who, old = account
    gate = Gate()
    async with Rehasher(database, Hasher(gate, 5)) as rehasher:
        rehasher.replace(who.id, PASSWORD, old)
        changed = hash_password("another one", 4)
        assert await change_password(database, who.id, old, changed) is not None
        gate.open.set()
        await settle(rehasher)
    found = await find_login(database, who.id)
    assert found is not None
    assert found.password_hash == changed


@pytest.mark.parametrize(
    "failure", [PoolFull(1.0), RuntimeError("about " + PASSWORD), MemoryError()]
)
async def test_a_failure_is_nobody_s(
    database: Database,
    account: tuple[Account, str],
    failure: Exception,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The hash stays, the log has the kind of the error and no more, the next sign-in tries
    again.
    """
    who, old = account
    gate = Gate()
    gate.open.set()
    gate.failure = failure
    async with Rehasher(database, Hasher(gate, 5)) as rehasher:
        rehasher.replace(who.id, PASSWORD, old)
        await settle(rehasher)
        told = capfd.readouterr()
        assert type(failure).__name__ in told.out + told.err
        assert PASSWORD not in told.out + told.err
        gate.failure = None
        rehasher.replace(who.id, PASSWORD, old)
        await settle(rehasher)
    found = await find_login(database, who.id)
    assert found is not None
    assert found.password_hash.startswith("$2b$05$")


async def test_what_waits_is_bounded_and_ends_with_the_server(
    database: Database, account: tuple[Account, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account waits once, a server has a limit, and the end waits for nobody."""
    who, old = account
    monkeypatch.setattr("devnest.api.security.rehash.MAX_WAITING", 3)
    gate = Gate()
    async with Rehasher(database, Hasher(gate, 5, Scheme.BCRYPT)) as rehasher:
        for account_id in [who.id, who.id, *(uuid.uuid4() for _ in range(5))]:
            rehasher.replace(account_id, PASSWORD, old)
        assert len(tasks := list(rehasher._tasks.values())) == 3
        while gate.waiting < 3:
            await asyncio.sleep(0)
    assert all(task.cancelled() for task in tasks)
    assert not rehasher._tasks
    found = await find_login(database, who.id)
    assert found is not None
    assert found.password_hash == old


def test_an_operator_s_account_has_the_scheme(argon2id_devnest: DevNest, username: str) -> None:
    """`devnest user create --hash-scheme`."""
    made = subprocess.run(
        [sys.executable, "-m", "devnest", "user", "create", username, f"{username}@example.org",
         "--hash-scheme", "argon2id", "--data-dir", str(argon2id_devnest.data_dir)],
        input=f"{PASSWORD}\n", capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert stored_hash(argon2id_devnest, username).startswith("$argon2id$")
