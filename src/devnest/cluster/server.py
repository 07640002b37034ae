"""A server, as a child of the supervisor."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import uvicorn
import uvloop
from litestar.types import ASGIApp

from devnest.addresses import TrustedProxies
from devnest.api import (
    ACCESS_TOKEN_LIFETIME_S,
    LEEWAY_S,
    Rehasher,
    Searches,
    Services,
    TokenIssuer,
    create_app,
    create_management_app,
)
from devnest.cluster.acceptor import Acceptor, has_room, most_connections
from devnest.cluster.connections import BoundedProtocol
from devnest.cluster.control import Control
from devnest.cluster.gc_control import collecting
from devnest.cluster.keywatch import KeyWatch
from devnest.cluster.receive_buffers import ReceiveBuffers
from devnest.cluster.send_buffers import SendBuffers
from devnest.hashing import PoolRunner
from devnest.keys import KeysUnusable, load_keys
from devnest.logs import configure_logging
from devnest.mail import LOSSES, FileTransport, Outbox, SmtpTransport
from devnest.metrics import Metrics
from devnest.passwords import (
    BreachedFile,
    Hasher,
    InlineRunner,
    Policy,
    Runner,
    Scheme,
    ThreadRunner,
)
from devnest.pool import Pool, PoolError, RemotePool
from devnest.settings import Hashing, ServerSettings
from devnest.shared_memory import SharedMemory
from devnest.store import (
    Database,
    DatabaseUnavailable,
    DatabaseUnfit,
    GroupCommit,
    Housekeeper,
    RevokedSessions,
    StoreError,
    Tags,
    check_schema,
    create_posts,
    create_sessions,
)

__all__ = ["main"]

KEEP_ALIVE_S = 75
LINGER_S = 1.0
MAX_MANAGEMENT_CONNECTIONS = (
    100  # of one server, beside those of its clients, who may have taken all of theirs
)
TURN_S = 0.02  # how often the connections are counted: that the last one has gone is no event of uvicorn's
MAX_TOGETHER = 100  # posts, or sessions, in one statement


class Server(uvicorn.Server):
    """uvicorn's server on our acceptor, with the signals left to us and an end that no client notices."""

    def __init__(
        self,
        config: uvicorn.Config,
        listeners: Sequence[socket.socket],
        ready: Callable[[], None],
        linger_s: float = LINGER_S,
        proxies: TrustedProxies | None = None,
    ) -> None:
        super().__init__(config)
        self._listeners = listeners
        self._proxies = proxies or TrustedProxies()
        self._ready = ready
        self._linger_s = linger_s
        self._management: tuple[uvicorn.Config, Sequence[socket.socket]] = (config, ())
        self._acceptors: list[Acceptor] = []
        self.send_buffers = SendBuffers()
        self.receive_buffers = ReceiveBuffers()

    def manage(self, config: uvicorn.Config, listeners: Sequence[socket.socket]) -> None:
        """Answer on these sockets too, with another application: for connections that always have room."""
        self._management = (config, listeners)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none: `Control.watch` has."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept, and say so."""
        self.servers = []
        most = most_connections()
        connections = cast(set[BoundedProtocol], self.server_state.connections)
        config, management = self._management

        def has_room_for_management() -> bool:
            return has_room(
                [each for each in connections if each.config is config], MAX_MANAGEMENT_CONNECTIONS
            )

        self._acceptors = [
            *(
                Acceptor(each, self._protocol, lambda: has_room(connections, most))
                for each in self._listeners
            ),
            *(
                Acceptor(each, partial(self._protocol, config), has_room_for_management)
                for each in management
            ),
        ]
        self.started = True
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, tell clients with their next answer that the connection ends, then close what is idle."""
        # A new list: what was begun keeps the old one, for of several requests on a connection the last one closes it.
        self.server_state.default_headers = [
            *self.server_state.default_headers,
            (b"connection", b"close"),
        ]
        for connection in self._connections:
            connection.end_with_answer()
        for acceptor in self._acceptors:
            acceptor.take_all()
            acceptor.close()
        for acceptor in self._acceptors:
            await acceptor.settle()
        for listener in (*self._listeners, *self._management[1]):
            listener.close()
        # Turns, not seconds by the clock: a process that was not scheduled for a while has read nothing meanwhile.
        turns = self._linger_s / TURN_S
        while self.server_state.connections and not self.force_exit and turns > 0:
            await asyncio.sleep(TURN_S)
            turns -= 1
        await asyncio.sleep(
            0
        )  # a turn's timers run before its reads: read what has arrived, then close what is idle
        await super().shutdown(None)
        while (
            self.force_exit and self.server_state.tasks
        ):  # begun meanwhile, by clients who came back at once
            self._end_requests()
            await asyncio.sleep(TURN_S)

    def stop(self) -> None:
        """Drain, for as long as the requests take that run: how long that may be is for the supervisor to say."""
        self.should_exit = True

    def insist(self) -> None:
        """Answer now what still runs, and wait for no connection."""
        self._end_requests()
        self.should_exit = self.force_exit = True

    def _end_requests(self) -> None:
        """`RequestMiddleware` makes a 503 of a cancelled request; it is the last one on its connection."""
        for connection in self._connections:
            connection.end_with_answer()
            if connection.flow.write_paused:  # it does not read, so no answer could be written
                connection.cut_off()
        for task in self.server_state.tasks:
            if not task.cancelling():  # once: what it does about it is not to be interrupted
                task.cancel()

    @property
    def _connections(self) -> list[BoundedProtocol]:
        return list(cast(set[BoundedProtocol], self.server_state.connections))

    def _protocol(self, config: uvicorn.Config | None = None) -> asyncio.Protocol:
        return BoundedProtocol(
            config or self.config,
            self.server_state,
            self._proxies,
            self.send_buffers,
            self.receive_buffers,
        )


def main(control_fd: int, memory_fd: int, *listener_fds: int) -> None:
    """Serve until told to end."""
    control = Control(control_fd)
    memory = SharedMemory(memory_fd)
    listeners = [socket.socket(fileno=descriptor) for descriptor in listener_fds]
    settings = control.settings(ServerSettings)
    configure_logging(settings.log_level)
    try:
        uvloop.run(_serve(control, settings, memory, listeners))
    except KeysUnusable as error:
        control.failed(4, str(error))
    except DatabaseUnfit as error:
        control.failed(6, str(error))
    except StoreError as error:
        control.failed(5, str(error), passing=isinstance(error, DatabaseUnavailable))
    except PoolError as error:
        control.failed(
            1, str(error), passing=True
        )  # the pool has a keeper of its own, who gives up on it


async def _serve(
    control: Control, settings: ServerSettings, memory: SharedMemory, listeners: list[socket.socket]
) -> None:
    async with AsyncExitStack() as stack:
        metrics = stack.enter_context(Metrics(memory, settings.metrics_slot, settings.name))
        waits = metrics.histogram(
            "db_client_connection_wait_time_seconds", "Wait for a database connection", {}
        )
        database = await stack.enter_async_context(
            Database(settings.database_url, record_wait=waits.record)
        )
        await check_schema(database)
        searches = await stack.enter_async_context(Searches(settings.database_url, database))
        metrics.gauge(
            "search_waiting", "Searches that wait for their turn", {}, lambda: searches.waiting
        )
        for state, read in (
            ("idle", lambda: database.idle + searches.database.idle),
            ("used", lambda: database.used + searches.database.used),
        ):
            labels = {"process": settings.name, "state": state}
            metrics.gauge(
                "db_client_connection_count", "Connections of the database pool", labels, read
            )
        metrics.watch_requests()
        metrics.watch_log()
        runner, pool = await stack.enter_async_context(_runner(settings))
        remember_s = ACCESS_TOKEN_LIFETIME_S + LEEWAY_S
        hasher = Hasher(runner, settings.hash_cost, Scheme(settings.hash_scheme))
        keys_path = Path(settings.signing_keys)
        tokens = TokenIssuer(load_keys(keys_path))
        await stack.enter_async_context(KeyWatch(keys_path, tokens.use))
        services = Services(
            database=database,
            hasher=hasher,
            rehasher=await stack.enter_async_context(Rehasher(database, hasher)),
            tokens=tokens,
            revoked=await stack.enter_async_context(
                RevokedSessions(settings.database_url, remember_s)
            ),
            outbox=await stack.enter_async_context(_outbox(settings, metrics)),
            policy=_policy(settings),
            metrics=metrics,
            publisher=GroupCommit(partial(create_posts, database), MAX_TOGETHER),
            opener=GroupCommit(partial(create_sessions, database), MAX_TOGETHER, pause_factor=0),
            tags=Tags(database),
            searches=searches,
            pool=pool,
            limited=settings.limits,
        )
        await stack.enter_async_context(Housekeeper(database))
        public = len(listeners) - settings.management_listeners
        app = create_app(services, settings.cors_origins, with_management=public == len(listeners))
        linger_s = min(LINGER_S, settings.drain_timeout_s)
        proxies = TrustedProxies(settings.trusted_proxies)
        server = Server(_config(app), listeners[:public], control.ready, linger_s, proxies)
        if public < len(listeners):
            server.manage(_config(create_management_app(services)), listeners[public:])
        control.watch(server.stop, server.insist)
        _watch_buffers(metrics, server.send_buffers, server.receive_buffers)
        async with collecting(lambda: len(server.server_state.tasks)):
            await server.serve()


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )


def _watch_buffers(metrics: Metrics, send: SendBuffers, receive: ReceiveBuffers) -> None:
    meaning = "Memory in answers that clients have not read whole"
    metrics.gauge("http_server_unsent_bytes", meaning, {}, lambda: send.held_bytes)
    meaning = "Memory in requests that have not come whole"
    metrics.gauge("http_server_unfinished_bytes", meaning, {}, lambda: receive.held_bytes)
    meaning = "Connections cut off because answers were not read, or for want of room"
    cut = "http_server_connections_cut_total"
    metrics.counter(cut, meaning, {}, lambda: send.connections_cut + receive.connections_cut)


def _outbox(settings: ServerSettings, metrics: Metrics) -> Outbox:
    url = settings.smtp_url
    outbox = Outbox(
        SmtpTransport(url) if url else FileTransport(Path(settings.mail_file)), settings.mail_from
    )
    metrics.gauge("mail_waiting", "Mails that wait to be sent", {}, lambda: outbox.waiting)
    metrics.counter("mail_sent_total", "Mails that were handed over", {}, lambda: outbox.sent)
    for reason in LOSSES:
        read = partial(outbox.lost.__getitem__, reason)
        metrics.counter("mail_lost_total", "Mails that were given up", {"reason": reason}, read)
    return outbox


def _policy(settings: ServerSettings) -> Policy:
    breached = settings.breached_passwords
    return Policy(settings.password_min_length, BreachedFile(Path(breached)) if breached else None)


@asynccontextmanager
async def _runner(settings: ServerSettings) -> AsyncIterator[tuple[Runner, RemotePool | None]]:
    match settings.hashing:
        case Hashing.POOL:
            async with Pool.connect(settings.pool_url) as pool:
                yield PoolRunner(pool), pool
        case Hashing.THREAD:
            threads = ThreadRunner(settings.hash_workers)
            try:
                yield threads, None
            finally:
                threads.close()
        case Hashing.INLINE:
            yield InlineRunner(), None
