"""The supervisor: starts every process, keeps each alive, and replaces the servers without a failed request.

One event loop that does nothing else. Each child has a keeper, which refills itself; only the supervisor decides that a
keeper goes: at the end, at TTOU, and in a rolling restart once the successor answers. PostgreSQL is watched here, since
its program is not ours.
"""

import asyncio
import signal
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import structlog

from devnest.cluster.child import ChildFailed
from devnest.cluster.keeper import Keeper
from devnest.cluster.notify import notify, watchdog_interval_s
from devnest.pool.runtime.interpreter import how_it_ended
from devnest.process_registry import ProcessRegistry
from devnest.store import EmbeddedPostgres, StoreError
from devnest.streams import dropped_lines

__all__ = ["Supervisor"]

POOL_PATIENCE_S = 15.0
# For a server whose successor answers: no request of it has to fail. A body may take 10 s to come, and a hash 25 s in
# all (devnest.hashing), of which a change of password has two.
ROLLING_PATIENCE_S = 65.0
MAX_SERVERS = 64
MAX_FAILED_STARTS = 5
DROPPED_S = 1.0  # how often the lines are counted that the supervisor's own log has lost
START_EXTENSION_S = (
    60  # what systemd is asked for, again and again, while PostgreSQL and the schema get ready
)
POLL_S = 0.005  # how often PostgreSQL is asked whether it is ready
LOG_CHECK_S = 1.0  # how often PostgreSQL's log is measured: what it may grow by beyond its bound
POSTGRESQL = "postgresql"  # its name in the log and the metrics
log = structlog.get_logger("devnest.cluster")


class Supervisor:
    """Runs keepers and an embedded PostgreSQL, where there is one.

    `make_server` makes the keeper of a server from its number and its CPU; `pool` is the keeper of
    the pool; `prepare` readies the database, after which keepers know their settings. `listeners`
    are the sockets that servers share. `cpus` are those that servers are spread over, each to stay
    on its own; without any they are not bound.
    """

    def __init__(
        self,
        make_server: Callable[[int, int | None], Keeper],
        pool: Keeper | None,
        postgres: EmbeddedPostgres | None,
        listeners: Sequence[socket.socket],
        drain_timeout_s: float,
        registry: ProcessRegistry,
        cpus: Collection[int] = (),
    ) -> None:
        self._make_server = make_server
        self._cpus = cpus
        self._pool = pool
        self._servers: dict[int, Keeper] = {}
        self._leaving: set[Keeper] = set()  # servers no longer, but not gone yet
        self._postgres = postgres
        self._listeners = listeners
        self._registry = registry
        self._patience_s = drain_timeout_s
        self._changes = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hurry = asyncio.Event()
        self._child_ended = (
            asyncio.Event()
        )  # any of this process: PostgreSQL's end has no other sign

    async def run(
        self, servers: int, prepare: Callable[[], Awaitable[None]], ready: Callable[[], None]
    ) -> None:
        """Run until TERM or INT; `ready` is called once, when everything has started.

        Raises `ChildFailed` or `StoreError` where something cannot start at all, now or later.
        """
        for number in range(servers):
            self._servers[number] = self._make_server(number, self._quietest_cpu())
        self._take_signals()
        if interval_s := watchdog_interval_s():
            self._start(self._feed_watchdog(interval_s))
        self._start(self._count_dropped_lines())
        try:
            for keeper in self._slots():
                await keeper.spawn()  # their interpreters load while the database starts
            starting = self._start(self._start_all(prepare, ready))
            await asyncio.wait((starting, self._end), return_when=asyncio.FIRST_COMPLETED)
            await self._end
        finally:
            await self._stop_all()

    def _slots(self) -> list[Keeper]:
        return [*([self._pool] if self._pool else []), *self._servers.values()]

    def _quietest_cpu(self, leaving: Keeper | None = None) -> int | None:
        """The one with the fewest servers, of those that stay."""
        taken = Counter(
            keeper.child.cpu for keeper in self._servers.values() if keeper is not leaving
        )
        return min(self._cpus, key=taken.__getitem__, default=None)

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run something beside the rest; where it fails, so does the supervisor."""

        def done(task: "asyncio.Task[None]") -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._give_up(error)

        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(done)
        return task

    def _give_up(self, error: BaseException) -> None:
        if not self._end.done():
            self._end.set_exception(error)

    async def _start_all(
        self, prepare: Callable[[], Awaitable[None]], ready: Callable[[], None]
    ) -> None:
        async with self._changes:  # who is told to change the servers meanwhile does so afterwards
            asking = self._start(
                self._ask_systemd_for_time()
            )  # for a recovery, or a large migration
            if self._postgres is not None:
                await self._postgres_ready(self._postgres)
            await prepare()
            asking.cancel()
            if self._pool is not None:
                await self._pool.fill()
            await asyncio.gather(*(keeper.fill() for keeper in self._servers.values()))
            if self._pool is not None:
                self._pool.keep(self._give_up)
            for keeper in self._servers.values():
                self._keep(keeper)
        if self._postgres is not None:
            self._start(self._keep_postgres(self._postgres))
            self._start(self._bound_postgres_log(self._postgres))
        ready()

    async def _feed_watchdog(self, interval_s: float) -> None:
        """As long as this loop turns, it is well; children have watches of their own."""
        while True:
            notify("WATCHDOG=1")
            await asyncio.sleep(interval_s)

    async def _count_dropped_lines(self) -> None:
        """For the metrics, which servers tell."""
        while True:
            self._registry.dropped(dropped_lines())
            await asyncio.sleep(DROPPED_S)

    async def _ask_systemd_for_time(self) -> None:
        while True:
            await asyncio.sleep(START_EXTENSION_S / 2)
            notify(f"EXTEND_TIMEOUT_USEC={START_EXTENSION_S * 1_000_000}")

    # Signals.

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        for number, change in (
            (signal.SIGHUP, self._restart_servers),
            (signal.SIGTTIN, self._add_server),
            (signal.SIGTTOU, self._remove_server),
        ):
            loop.add_signal_handler(number, self._change_soon, change)
        loop.add_signal_handler(signal.SIGCHLD, self._child_ended.set)

    def _told_to_stop(self) -> None:
        if self._end.done():
            self._hurry.set()
        else:
            log.info("stopping")
            notify("STOPPING=1")
            self._end.set_result(None)

    def _change_soon(self, change: Callable[[], Awaitable[None]]) -> None:
        if not self._end.done():  # or a server would be added that nobody stops
            self._start(self._in_turn(change))

    async def _in_turn(self, change: Callable[[], Awaitable[None]]) -> None:
        """One change of the servers at a time; a change that fails leaves those there are."""
        async with self._changes:
            try:
                await change()
            except ChildFailed as error:
                log.error("servers not changed", reason=error.reason)

    async def _restart_servers(self) -> None:
        """Each server in turn: its successor answers before it is told to go."""
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            for number, old in list(self._servers.items()):
                await self._add_server(old)
                del self._servers[number]
                await self._drain(old)
            log.info("servers restarted", servers=len(self._servers))
        finally:
            if not self._end.done():  # after STOPPING=1 nothing is ready again
                notify("READY=1")

    async def _add_server(self, successor_of: Keeper | None = None) -> None:
        # The lowest free number, so that the names in the metrics do not pile up.
        number = min(set(range(len(self._servers) + 1)) - self._servers.keys())
        if number >= MAX_SERVERS:
            raise ChildFailed(f"server-{number}", f"there are {MAX_SERVERS} servers already")
        keeper = self._make_server(number, self._quietest_cpu(successor_of))
        try:
            await keeper.spawn()
            await keeper.fill()
        except BaseException:
            await keeper.leave(0)
            raise
        self._servers[number] = keeper
        self._keep(keeper)
        log.info("server added", server=keeper.name, servers=len(self._servers))

    def _keep(self, server: Keeper) -> None:
        """Whatever keeps one from starting, a newer schema say, the others go on."""
        server.keep(
            self._give_up,
            lambda: any(other.serves for other in self._servers.values() if other is not server),
        )

    async def _remove_server(self) -> None:
        if len(self._servers) == 1:
            log.warning("the last server stays")
            return
        keeper = self._servers.pop(max(self._servers))
        await self._drain(keeper)
        log.info("server removed", server=keeper.name, servers=len(self._servers))

    async def _drain(self, keeper: Keeper) -> None:
        """Let a server go; where the end comes meanwhile, that waits for it."""
        self._leaving.add(keeper)
        await keeper.leave(max(self._patience_s, ROLLING_PATIENCE_S))
        self._leaving.discard(keeper)

    # PostgreSQL.

    async def _postgres_ready(self, postgres: EmbeddedPostgres) -> None:
        while not postgres.is_ready():  # noqa: ASYNC110 (it says so in a file)
            await asyncio.sleep(POLL_S)
        log.info("postgresql started", pid=postgres.pid)
        if postgres.pid is not None:
            self._registry.started(POSTGRESQL, postgres.pid)

    async def _keep_postgres(self, postgres: EmbeddedPostgres) -> None:
        while True:
            pid = postgres.pid
            while (status := postgres.exit_status) is None:
                await self._child_ended.wait()
                self._child_ended.clear()
            log.warning("child died", child=POSTGRESQL, pid=pid, how=how_it_ended(status))
            await self._restart_postgres(postgres)

    async def _restart_postgres(self, postgres: EmbeddedPostgres) -> None:
        for tries in range(1, MAX_FAILED_STARTS + 1):
            self._registry.died(POSTGRESQL)
            try:
                while not postgres.try_launch():  # noqa: ASYNC110 (what is left of it tells nobody that it ends)
                    await asyncio.sleep(POLL_S)
                await self._postgres_ready(postgres)
            except StoreError as error:
                log.warning("child did not start", child=POSTGRESQL, reason=str(error), tries=tries)
                if tries == MAX_FAILED_STARTS:
                    raise
                await asyncio.sleep(tries)
            else:
                return

    async def _bound_postgres_log(self, postgres: EmbeddedPostgres) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_S)
            with suppress(OSError):  # PostgreSQL cannot write there either
                postgres.bound_log()

    # The end.

    async def _stop_all(self) -> None:
        """Servers first, so that what they have taken on is still answered; then what they use."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()  # the last server to close its own refuses whoever comes then
        hurrying = asyncio.create_task(self._kill_when_hurried())
        await asyncio.gather(
            *(
                keeper.leave(self._patience_s)
                for keeper in (*self._servers.values(), *self._leaving)
            )
        )
        if self._pool is not None:
            await self._pool.leave(POOL_PATIENCE_S)
        hurrying.cancel()
        if self._postgres is not None:
            self._postgres.stop()

    async def _kill_when_hurried(self) -> None:
        await self._hurry.wait()
        for keeper in (*self._slots(), *self._leaving):
            keeper.child.kill()
