"""Death of anything is normal: each process is killed in turn under a steady mixed load, and no
promise breaks.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import psutil
import pytest

from tests.metrics import SERVERS, directories, named, pids, requests, scrape, total, until
from tests.support import NO_TLS, PASSWORD, DevNest, data_directory, http, running, sign_in, sign_up

CLIENTS = 6
PAUSE_S = 0.2  # between a client's rounds: what starts in a test needs some of the CPU too


class Load:
    """Clients that sign in, post and read, again and again, and remember what they were
    promised.
    """

    def __init__(self, devnest: DevNest) -> None:
        self.devnest = devnest
        self.acknowledged: dict[str, str] = {}  # post id → title
        self.wrong: list[str] = []  # an answer that is not ours, or not what it should be
        self.broken: list[
            tuple[int, str]
        ] = []  # requests without an answer, each with its connection's port
        self.statuses: Counter[int] = Counter()
        self.rounds: Counter[int] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]
        await self.turn()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert [r for r in results if not isinstance(r, asyncio.CancelledError)] == []

    async def turn(self) -> None:
        """Wait until every client has gone round once more, all answers being what they should
        be.
        """
        goal = {number: self.rounds[number] + 2 for number in range(CLIENTS)}
        while any(self.rounds[number] < rounds for number, rounds in goal.items()):
            await asyncio.sleep(0.01)

    async def _client(self, number: int) -> None:
        name = f"c{number}x{uuid.uuid4().hex[:12]}"
        account_id = ""
        while True:
            # A new connection every few requests, and one that is broken is given up: as browsers
            # do.
            async with httpx.AsyncClient(
                base_url=f"{self.devnest.url}/api/v1", timeout=60, verify=NO_TLS
            ) as client:
                with contextlib.suppress(_Interrupted):
                    while not account_id:
                        account = {
                            "username": name,
                            "email": f"{name}@example.org",
                            "password": PASSWORD,
                        }
                        answer = await self._send(
                            client, "POST", "/auth/register", account, (201, 409)
                        )
                        if answer.status_code == 409:  # the answer to the first try was lost
                            account_id = await self._sign_in(client, name)
                        else:
                            account_id = answer.json()["id"]
                    for _ in range(5):
                        await self._round(client, number, name, account_id)

    async def _round(
        self, client: httpx.AsyncClient, number: int, name: str, account_id: str
    ) -> None:
        if await self._sign_in(client, name) != account_id:
            self.wrong.append(f"{name} was given another account's token")
        title = uuid.uuid4().hex
        post = (
            await self._send(client, "POST", "/posts", {"title": title, "body": name}, (201,))
        ).json()
        if (post["title"], post["author"]["id"]) != (title, account_id):
            self.wrong.append(f"{name} was given another post")
        self.acknowledged[post["id"]] = title
        read = (await self._send(client, "GET", f"/posts/{post['id']}", None, (200,))).json()
        if read != post:
            self.wrong.append(f"{name} read another post")
        self.rounds[number] += 1
        await asyncio.sleep(PAUSE_S)

    async def _sign_in(self, client: httpx.AsyncClient, name: str) -> str:
        tokens = await self._send(
            client, "POST", "/auth/login", {"username": name, "password": PASSWORD}, (200,)
        )
        token = tokens.json()["access_token"]
        client.headers["authorization"] = f"Bearer {token}"
        account_id: str = jwt.decode(token, options={"verify_signature": False})["sub"]
        return account_id

    async def _send(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        body: object,
        expected: tuple[int, ...],
    ) -> httpx.Response:
        """An answer with an expected status.

        503 is repeated after a moment, a broken connection is counted.
        """

        async def trace(event: str, info: dict[str, Any]) -> None:
            if event == "connection.connect_tcp.complete":
                client.headers["x-port"] = str(
                    info["return_value"].get_extra_info("client_addr")[1]
                )

        while True:
            try:
                answer = await client.request(method, path, json=body, extensions={"trace": trace})
            except httpx.TransportError as error:
                self.broken.append(
                    (int(client.headers.get("x-port", 0)), f"{method} {path}: {error!r}")
                )
                raise _Interrupted from error
            self.statuses[answer.status_code] += 1
            if answer.status_code == 503:
                if "retry-after" not in answer.headers:
                    self.wrong.append(f"{path}: 503 without Retry-After")
                await asyncio.sleep(0.05)
                continue
            if answer.status_code not in expected:
                self.wrong.append(f"{method} {path}: {answer.status_code} {answer.text}")
                raise _Interrupted
            return answer


class _Interrupted(Exception):
    """The connection broke; begin again on another."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[DevNest]:
    """Two servers and two workers; what dies in one test has come back in the next."""
    options = ("--processes=2", "--hash-workers=2", "--hash-cost=5")
    with data_directory() as data_dir, running(data_dir, *options) as devnest:
        yield devnest


@pytest.fixture
async def load(cluster: DevNest) -> AsyncIterator[Load]:
    """The cluster under load."""
    async with Load(cluster) as load:
        yield load


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU])
async def test_a_signal_for_the_supervisor_is_nothing_to_its_children(
    load: Load, number: signal.Signals
) -> None:
    """A signal to every process, as Ctrl-C in a runner: no child ends, stops or fails a request.

    It comes first: after the others, a child that is being replaced may end for that reason.
    """
    children = [
        *load.devnest.find("devnest.cluster.server"),
        *load.devnest.find("devnest.cluster.hashing_pool"),
    ]
    children += [worker for child in children for worker in child.children()]
    for child in children:
        child.send_signal(number)
    await load.turn()
    assert all(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert load.wrong == []
    assert load.broken == []
    assert set(load.statuses) <= {200, 201}


KILLS: list[tuple[str, Callable[[DevNest], psutil.Process], bool]] = [
    ("a server", lambda devnest: devnest.find("devnest.cluster.server")[0], False),
    (
        "a worker",
        lambda devnest: devnest.find("devnest.cluster.hashing_pool")[0].children()[0],
        False,
    ),
    ("the pool", lambda devnest: devnest.find("devnest.cluster.hashing_pool")[0], False),
    ("a backend of PostgreSQL", lambda devnest: devnest.find("devnest devnest [local]")[0], True),
    ("the postmaster", lambda devnest: devnest.find("bin/postgres")[0], True),
]


async def test_nothing_is_lost_whoever_dies(load: Load) -> None:
    """Server, worker, pool, backend and postmaster get SIGKILL in turn; service continues.

    Requests break on the killed server's own connections alone; only while PostgreSQL recovers is
    anybody refused. How long each takes is for `make bench-recovery`.
    """
    for name, choose, may_refuse in KILLS:
        broken, refused = len(load.broken), load.statuses[503]
        victim = choose(load.devnest)
        victim.suspend()  # from now on its connections are those it has
        ports = {each.raddr.port for each in victim.net_connections("tcp") if each.raddr}
        victim.kill()
        await load.turn()
        assert load.wrong == [], name
        assert [what for port, what in load.broken[broken:] if port not in ports] == [], name
        assert may_refuse or load.statuses[503] == refused, name
        assert not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE
    await every_post_is_there(load)


async def test_a_rolling_restart_fails_no_request(load: Load) -> None:
    """HUP twice, then one server more and one less: every server is another, no connection
    broke.
    """
    before = {process.pid for process in load.devnest.find("devnest.cluster.server")}
    for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU):
        load.devnest.process.send_signal(number)
        await load.turn()
    while (
        len(now := {p.pid for p in load.devnest.find("devnest.cluster.server")}) != 2
        or now & before
    ):
        await load.turn()
    assert load.wrong == []
    assert load.broken == []
    assert set(load.statuses) <= {200, 201}
    await every_post_is_there(load)


async def every_post_is_there(load: Load) -> None:
    """All that was acknowledged, and exactly once."""
    assert len(load.acknowledged) > 20
    async with httpx.AsyncClient(base_url=load.devnest.url, timeout=60, verify=NO_TLS) as client:
        for post_id, title in list(load.acknowledged.items()):
            answer = await client.get(f"/api/v1/posts/{post_id}")
            assert answer.status_code == 200
            assert answer.json()["title"] == title


@pytest.mark.parametrize("how", ["removed", "filled with garbage"])
def test_what_it_keeps_outside_its_data_directory_may_go(
    data_dir: Path, username: str, how: str
) -> None:
    """A rolling restart, a killed server and a killed pool work as always afterwards.

    Such files are removed by logind, by a cleaner or by hand.

    PostgreSQL's socket is left where it is: without it nobody reaches the database.
    """
    with running(data_dir, "--processes=2") as devnest:
        with devnest.client() as client:
            sign_up(client, username)
        before = pids(
            until(devnest.url, lambda page: len(pids(page, "server-0", "server-1")) == 2), *SERVERS
        )
        kept = directories(data_dir)
        assert kept
        for directory in kept:
            if how == "removed":
                shutil.rmtree(directory)
            for file in directory.glob("*"):
                file.unlink()
                file.write_bytes(os.urandom(4096))
        devnest.process.send_signal(signal.SIGHUP)
        page = until(
            devnest.url,
            lambda page: len(now := pids(page, *SERVERS)) == 2 and now.isdisjoint(before),
        )
        for name in ("server-0", "pool"):
            killed = named(page, name)[0]
            killed.kill()
            page = until(
                devnest.url,
                lambda page: (
                    total(page, "process_restarts_total", process=name) == 1  # noqa: B023
                    and len(pids(page, name)) == 1  # noqa: B023
                    and total(page, "pool_up") == 1
                ),
            )
            assert pids(page, name) != {killed.pid}
            with devnest.client() as client:
                sign_in(client, username)
        assert total(page, "process_restarts_total") == 2, "nothing else died"


def test_children_leave_when_the_supervisor_is_killed(data_dir: Path) -> None:
    """Servers, pool, workers, and on Linux PostgreSQL.

    The next start finds everything in order, and tidies up.
    """
    devnest = DevNest(data_dir).start()
    family = devnest.descendants()
    assert len(family) > 4
    http.get(f"{devnest.url}/healthz")
    until(devnest.url, lambda page: requests(page, "GET", "/healthz", 200) == 1)
    devnest.process.kill()
    devnest.wait()
    assert psutil.wait_procs(family, timeout=60)[1] == []
    assert len(directories(data_dir)) == 1
    with running(data_dir) as successor:
        assert http.get(f"{successor.url}/readyz").status_code == 200
        assert requests(scrape(successor.url), "GET", "/healthz", 200) == 0, (
            "numbers of another life"
        )
        assert len(directories(data_dir)) == 1
    assert directories(data_dir) == []
    for parent in ("/dev/shm", tempfile.gettempdir()):  # noqa: S108
        assert not [
            path
            for path in Path(parent).glob("devnest-*")
            if f"{data_dir.stat().st_ino:x}" in path.name
        ]
