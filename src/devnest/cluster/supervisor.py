"""Starts all processes, keeps each alive, and replaces the servers without a failed request.

The supervisor is one event loop that does nothing else. Each child has a keeper, which restarts it.
The supervisor alone starts and stops keepers: at the start and the end, at TTIN and TTOU, and in a
rolling restart. It watches PostgreSQL itself, since that program knows nothing of our control
socket.
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
from devnest.cluster.keeper import MAX_FAILED_STARTS, Keeper
from devnest.cluster.notify import notify, watchdog_interval_s
from devnest.pool.runtime.interpreter import how_it_ended
from devnest.process_registry import ProcessRegistry
from devnest.store import EmbeddedPostgres, StoreError
from devnest.streams import dropped_lines

__all__ = ["Supervisor"]

# How long the pool may drain: its own 10 s (`devnest.cluster.hashing_pool`), and some to end.
POOL_GRACE_S = 15.0
# How long a server may drain after its successor answers. It is enough for every request: a body
# may take 10 s to arrive and a hash 25 s (`devnest.passwords.runners`), and a change of password
# needs two hashes.
ROLLING_GRACE_S = 65.0
# Bounds `--processes` and what TTIN can add.
MAX_SERVERS = 64
# Between two looks at how many lines the supervisor's own log has lost, which the metrics report.
DROPPED_LINES_INTERVAL_S = 1.0
# While PostgreSQL and the schema get ready, systemd is asked again and again to wait this much
# longer.
START_EXTENSION_S = 60
# Between two checks whether PostgreSQL is ready.
POLL_INTERVAL_S = 0.005
# Between two checks of the size of PostgreSQL's log, which can exceed its bound in this time.
LOG_CHECK_INTERVAL_S = 1.0
# PostgreSQL's name in the log and the metrics.
POSTGRESQL = "postgresql"
log = structlog.get_logger("devnest.cluster")


class Supervisor:
    """Runs the keepers, and watches an embedded PostgreSQL.

    Args:
        make_server: Makes the keeper of a server from its number and the CPU to bind it to.
        pool: The keeper of the pool; None if the servers hash themselves.
        postgres: The embedded PostgreSQL, which has been launched; None if there is none.
        listeners: The sockets that the servers share, closed when the supervisor stops.
        drain_timeout_s: How long the servers may drain at the end, in seconds.
        registry: Where the metrics find which processes run.
        cpus: The CPUs to spread the servers over, each bound to one; if empty, none is bound.
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
        self._draining: set[Keeper] = set()  # replaced or removed, but still answering requests
        self._postgres = postgres
        self._listeners = listeners
        self._registry = registry
        self._drain_timeout_s = drain_timeout_s
        self._changes = asyncio.Lock()  # held while servers are started, replaced, added or removed
        self._tasks: set[asyncio.Task[None]] = set()
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stop_now = asyncio.Event()
        self._child_ended = asyncio.Event()  # set at SIGCHLD, the only sign of PostgreSQL's end

    async def run(
        self, servers: int, prepare: Callable[[], Awaitable[None]], ready: Callable[[], None]
    ) -> None:
        """Start everything, run until SIGTERM or SIGINT, and stop everything.

        Cancelling it stops everything too.

        Args:
            servers: How many servers to start.
            prepare: Makes the database ready; keepers ask for their settings after it.
            ready: Called once, when everything has started.

        Raises:
            ChildFailed: A child cannot start, now or later.
            StoreError: The database cannot be made ready, or PostgreSQL cannot start again.
        """
        for number in range(servers):
            self._servers[number] = self._make_server(number, self._least_used_cpu())
        self._handle_signals()
        if interval_s := watchdog_interval_s():
            self._start(self._feed_watchdog(interval_s))
        self._start(self._count_dropped_lines())
        try:
            for keeper in self._keepers():
                await keeper.spawn()  # the interpreters load while the database starts
            starting = self._start(self._start_all(prepare, ready))
            await asyncio.wait((starting, self._end), return_when=asyncio.FIRST_COMPLETED)
            await self._end
        finally:
            await self._stop_all()

    def _keepers(self) -> list[Keeper]:
        return [*([self._pool] if self._pool else []), *self._servers.values()]

    def _least_used_cpu(self, ignored: Keeper | None = None) -> int | None:
        """Return the CPU that the fewest servers are bound to, not counting one server."""
        used = Counter(
            keeper.child.cpu for keeper in self._servers.values() if keeper is not ignored
        )
        return min(self._cpus, key=used.__getitem__, default=None)

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a coroutine in the background; if it fails, the supervisor ends with its error."""

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
        async with self._changes:
            # A crash recovery or a large migration can take longer than systemd waits.
            asking = self._start(self._ask_systemd_for_time())
            if self._postgres is not None:
                await self._postgres_ready(self._postgres)
            await prepare()
            asking.cancel()
            if self._pool is not None:
                await self._pool.make_ready()
            await asyncio.gather(*(keeper.make_ready() for keeper in self._servers.values()))
            if self._pool is not None:
                self._pool.keep(self._give_up)
            for keeper in self._servers.values():
                self._keep(keeper)
        if self._postgres is not None:
            self._start(self._keep_postgres(self._postgres))
            self._start(self._bound_postgres_log(self._postgres))
        ready()

    async def _feed_watchdog(self, interval_s: float) -> None:
        """Tell systemd that this event loop runs. The keepers watch the children."""
        while True:
            notify("WATCHDOG=1")
            await asyncio.sleep(interval_s)

    async def _count_dropped_lines(self) -> None:
        """Tell the servers, for the metrics, how many log lines this process has lost."""
        while True:
            self._registry.dropped(dropped_lines())
            await asyncio.sleep(DROPPED_LINES_INTERVAL_S)

    async def _ask_systemd_for_time(self) -> None:
        while True:
            await asyncio.sleep(START_EXTENSION_S / 2)
            notify(f"EXTEND_TIMEOUT_USEC={START_EXTENSION_S * 1_000_000}")

    # Signals.

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal)
        for number, change in (
            (signal.SIGHUP, self._restart_servers),
            (signal.SIGTTIN, self._add_server),
            (signal.SIGTTOU, self._remove_server),
        ):
            loop.add_signal_handler(number, self._schedule, change)
        loop.add_signal_handler(signal.SIGCHLD, self._child_ended.set)

    def _on_stop_signal(self) -> None:
        if self._end.done():
            self._stop_now.set()
        else:
            log.info("stopping")
            notify("STOPPING=1")
            self._end.set_result(None)

    def _schedule(self, change: Callable[[], Awaitable[None]]) -> None:
        if not self._end.done():  # else a server could be added that nothing stops
            self._start(self._apply(change))

    async def _apply(self, change: Callable[[], Awaitable[None]]) -> None:
        """Change the servers, after changes in progress; if it fails, the present servers go on."""
        async with self._changes:
            try:
                await change()
            except ChildFailed as error:
                log.error("servers not changed", reason=error.reason)

    async def _restart_servers(self) -> None:
        """Replace one server after another; each drains once its successor answers."""
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            for number, old in list(self._servers.items()):
                await self._add_server(old)
                del self._servers[number]
                await self._drain(old)
            log.info("servers restarted", servers=len(self._servers))
        finally:
            if not self._end.done():  # READY=1 must not follow STOPPING=1
                notify("READY=1")

    async def _add_server(self, successor_of: Keeper | None = None) -> None:
        # The lowest free number, so that the number of names in the metrics stays bounded.
        number = min(set(range(len(self._servers) + 1)) - self._servers.keys())
        if number >= MAX_SERVERS:
            raise ChildFailed(f"server-{number}", f"there are {MAX_SERVERS} servers already")
        keeper = self._make_server(number, self._least_used_cpu(successor_of))
        try:
            await keeper.spawn()
            await keeper.make_ready()
        except BaseException:
            await keeper.stop(0)
            raise
        self._servers[number] = keeper
        self._keep(keeper)
        log.info("server added", server=keeper.name, servers=len(self._servers))

    def _keep(self, server: Keeper) -> None:
        """Restart a server whenever it ends, for as long as it takes while others serve.

        What keeps one from starting, such as a newer schema, must not end the others.
        """
        server.keep(
            self._give_up,
            lambda: any(
                other.is_serving for other in self._servers.values() if other is not server
            ),
        )

    async def _remove_server(self) -> None:
        if len(self._servers) == 1:
            log.warning("the last server stays")
            return
        keeper = self._servers.pop(max(self._servers))
        await self._drain(keeper)
        log.info("server removed", server=keeper.name, servers=len(self._servers))

    async def _drain(self, keeper: Keeper) -> None:
        """Stop a server that others replace. `_stop_all` stops it if this is cancelled."""
        self._draining.add(keeper)
        await keeper.stop(max(self._drain_timeout_s, ROLLING_GRACE_S))
        self._draining.discard(keeper)

    # PostgreSQL.

    async def _postgres_ready(self, postgres: EmbeddedPostgres) -> None:
        while not postgres.is_ready():  # noqa: ASYNC110 (PostgreSQL reports it in a file)
            await asyncio.sleep(POLL_INTERVAL_S)
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
                # The remaining processes of the last one have to end first, and send no signal.
                while not postgres.try_launch():  # noqa: ASYNC110
                    await asyncio.sleep(POLL_INTERVAL_S)
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
            await asyncio.sleep(LOG_CHECK_INTERVAL_S)
            with suppress(OSError):  # PostgreSQL cannot write its log then either
                postgres.bound_log()

    # The end.

    async def _stop_all(self) -> None:
        """Stop the servers, which finish their requests, then the pool, then PostgreSQL."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            # New connections are refused once the last server has closed its own descriptor too.
            listener.close()
        killing = asyncio.create_task(self._kill_on_second_signal())
        await asyncio.gather(
            *(
                keeper.stop(self._drain_timeout_s)
                for keeper in (*self._servers.values(), *self._draining)
            )
        )
        if self._pool is not None:
            await self._pool.stop(POOL_GRACE_S)
        killing.cancel()
        if self._postgres is not None:
            self._postgres.stop()

    async def _kill_on_second_signal(self) -> None:
        await self._stop_now.wait()
        for keeper in (*self._keepers(), *self._draining):
            keeper.child.kill()
