"""The supervisor, with small children: signals that come too early, too late, or when nothing
can be started.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from devnest.cluster.child import Child
from devnest.cluster.keeper import Keeper
from devnest.cluster.supervisor import Supervisor
from devnest.process_registry import ProcessRegistry, read_processes
from devnest.shared_memory import SharedMemory
from tests.cluster.test_keeper import no_descriptor_left
from tests.support import PATIENCE_S

NAMES = ("server-0", "server-1", "server-2", "pool")
# A child is ready once there is a file `start`, and once told to end it does so when there is a
# file `end-NAME`.
MODULE = """
import signal
import time
from pathlib import Path
from devnest.cluster.control import Control, Report
HERE = Path(__file__).parent
def wait_for(name):
    while not (HERE / name).exists():
        time.sleep(0.01)
def main(fd):
    signal.alarm(120)
    control = Control(fd)
    name = control.settings(dict)["name"]
    wait_for("start")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    control._report(Report())
    signal.sigwait([signal.SIGTERM])
    (HERE / f"told-{name}").touch()
    wait_for(f"end-{name}")
    with (HERE / "ends").open("a") as ends:
        ends.write(f"{name} ")
"""


class Settings(msgspec.Struct):
    """What the module is told."""

    name: str


class Cluster:
    """A supervisor that runs, and the directory in which its children leave their notes."""

    def __init__(self, directory: Path, *, servers: int, pool: bool, cpus: Sequence[int]) -> None:
        self.directory = directory
        self.made: list[str] = []
        self.configured: list[str] = []
        self.is_ready = asyncio.Event()
        self.memory = SharedMemory.create()
        self._registry = ProcessRegistry(self.memory)
        self._listener = socket.socket()
        pools = self._slot("pool") if pool else None
        supervisor = Supervisor(
            lambda number, cpu: self._slot(f"server-{number}", cpu),
            pools, None, [self._listener], PATIENCE_S, self._registry, cpus,
        )  # fmt: skip
        self.running = asyncio.create_task(
            supervisor.run(servers, self._prepare, self.is_ready.set)
        )

    async def _prepare(self) -> None:
        """There is no database."""

    def _slot(self, name: str, cpu: int | None = None) -> Keeper:
        def settings() -> Settings:
            self.configured.append(name)
            return Settings(name)

        self.made.append(name)
        return Keeper(lambda: Child(name, "small_child", cpu=cpu), settings, self._registry)

    @property
    def names(self) -> set[str]:
        """Who runs."""
        return set(read_processes(self.memory).pids) - {"supervisor"}

    @property
    def affinities(self) -> list[set[int]]:
        """The CPUs that each server may run on."""
        pids = read_processes(self.memory).pids
        return [
            os.sched_getaffinity(pid)
            for name, pid in sorted(pids.items())
            if name.startswith("server-")
        ]

    def note(self, name: str) -> None:
        """What children wait for."""
        (self.directory / name).touch()

    def was_told(self, name: str) -> bool:
        """Whether that child was told to end."""
        return (self.directory / f"told-{name}").exists()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait; the supervisor must not end meanwhile."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                if self.running.done():
                    await self.running
                    raise AssertionError("the supervisor has ended")
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Let every child end when it is told to, and tell them."""
        for name in NAMES:
            self.note(f"end-{name}")
        if not self.running.done():
            signal.raise_signal(signal.SIGTERM)
        await self.running


@asynccontextmanager
async def running(
    directory: Path, *, servers: int = 1, pool: bool = False, cpus: Sequence[int] = ()
) -> AsyncIterator[Cluster]:
    """Children are spawned, and none is ready until the note `start`."""
    (directory / "small_child.py").write_text(MODULE)
    cluster = Cluster(directory, servers=servers, pool=pool, cpus=cpus)
    try:
        await cluster.until(lambda: len(cluster.configured) > 0)
        yield cluster
    finally:
        cluster.note("start")
        await cluster.stop()


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children find theirs."""
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("change", [signal.SIGHUP, signal.SIGTTIN])
async def test_a_change_for_which_nothing_can_be_spawned_leaves_the_servers(
    tmp_path: Path, change: signal.Signals
) -> None:
    """It is logged, and the servers that there are stay."""
    async with running(tmp_path) as cluster:
        cluster.note("start")
        await cluster.until(cluster.is_ready.is_set)
        with no_descriptor_left(), capture_logs() as logs:
            signal.raise_signal(change)
            await cluster.until(
                lambda: any(line["event"] == "servers not changed" for line in logs)
            )
        assert cluster.names == {"server-0"}
        assert not cluster.was_told("server-0")


@pytest.mark.parametrize("change", [signal.SIGHUP, signal.SIGTTOU])
async def test_the_end_waits_for_a_server_that_is_leaving(
    tmp_path: Path, change: signal.Signals
) -> None:
    """What it has taken on is still answered: the pool goes when no server is left."""
    leaving, staying = (
        ("server-0", "server-1") if change is signal.SIGHUP else ("server-1", "server-0")
    )
    async with running(tmp_path, servers=1 if change is signal.SIGHUP else 2, pool=True) as cluster:
        cluster.note("start")
        await cluster.until(cluster.is_ready.is_set)
        cluster.note(f"end-{staying}")
        cluster.note("end-pool")
        signal.raise_signal(change)
        await cluster.until(lambda: cluster.was_told(leaving))
        signal.raise_signal(signal.SIGTERM)
        await cluster.until(lambda: staying not in cluster.names)
        await asyncio.wait(
            (cluster.running,), timeout=0.2
        )  # in which a supervisor that waits for nobody ends
        assert not cluster.was_told("pool")
        cluster.note(f"end-{leaving}")
        await cluster.running
    assert (tmp_path / "ends").read_text().split() == [staying, leaving, "pool"]


async def test_nothing_is_started_once_the_end_has_begun(tmp_path: Path) -> None:
    """Whatever the supervisor is told then."""
    async with running(tmp_path) as cluster:
        cluster.note("start")
        await cluster.until(cluster.is_ready.is_set)
        signal.raise_signal(signal.SIGTERM)
        await cluster.until(lambda: cluster.was_told("server-0"))
        for change in (signal.SIGTTIN, signal.SIGHUP):
            signal.raise_signal(change)
        for _ in range(50):  # turns in which a supervisor that obeys makes a server
            await asyncio.sleep(0)
        cluster.note("end-server-0")
        await cluster.running
    assert cluster.made == ["server-0"]


async def test_a_hurried_end_kills_a_server_that_is_leaving(tmp_path: Path) -> None:
    """A second TERM waits for nobody."""
    async with running(tmp_path) as cluster:
        cluster.note("start")
        await cluster.until(cluster.is_ready.is_set)
        signal.raise_signal(signal.SIGHUP)
        await cluster.until(lambda: cluster.was_told("server-0"))
        signal.raise_signal(signal.SIGTERM)
        await cluster.until(lambda: cluster.was_told("server-1"))
        signal.raise_signal(signal.SIGTERM)
        await cluster.running
    assert not (tmp_path / "ends").exists()


async def test_servers_are_changed_once_all_have_started(tmp_path: Path) -> None:
    """One that is told to go before it is ready would look like one that cannot start."""
    async with running(tmp_path, servers=2) as cluster:
        await cluster.until(lambda: "server-1" in cluster.configured)
        cluster.note("end-server-1")
        signal.raise_signal(signal.SIGTTOU)
        for _ in range(50):  # turns in which a supervisor that does not wait tells the server
            await asyncio.sleep(0)
        assert not cluster.is_ready.is_set()
        cluster.note("start")
        await cluster.until(lambda: cluster.names == {"server-0"})
        assert cluster.is_ready.is_set()
        assert cluster.was_told("server-1")


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="only Linux binds a process to a CPU"
)
async def test_servers_are_spread_over_the_cpus(tmp_path: Path) -> None:
    """Also after each of them has had a successor, while there are more than CPUs, and after a
    death.
    """
    cpus = sorted(os.sched_getaffinity(0))[:2]

    def spread(servers: int) -> list[set[int]]:
        return [{cpus[number % len(cpus)]} for number in range(servers)]

    async with running(tmp_path, servers=2, cpus=cpus) as cluster:
        cluster.note("start")
        await cluster.until(cluster.is_ready.is_set)
        assert cluster.affinities == spread(2)
        for name in ("server-0", "server-1"):
            cluster.note(f"end-{name}")
        signal.raise_signal(signal.SIGHUP)
        await cluster.until(lambda: cluster.names == {"server-2", "server-0"})
        assert sorted(cluster.affinities, key=min) == spread(2)
        signal.raise_signal(signal.SIGTTIN)
        await cluster.until(lambda: len(cluster.names) == 3)
        assert sorted(cluster.affinities, key=min) == sorted(spread(3), key=min)
        killed = read_processes(cluster.memory).pids["server-2"]
        os.kill(killed, signal.SIGKILL)
        await cluster.until(
            lambda: read_processes(cluster.memory).pids.get("server-2", killed) != killed
        )
        await cluster.until(
            lambda: sorted(cluster.affinities, key=min) == sorted(spread(3), key=min)
        )


async def test_servers_are_not_bound_where_no_cpu_is_theirs(tmp_path: Path) -> None:
    """They run wherever this process may."""
    async with running(tmp_path, servers=2) as cluster:
        cluster.note("start")
        await cluster.until(cluster.is_ready.is_set)
        assert cluster.affinities == [os.sched_getaffinity(0)] * 2
