"""The child process that serves HTTP.

It runs uvicorn with two changes: connections come from our acceptor, which several servers share,
and a stop drains them so that no client sees a failed request.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

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
from devnest.cluster.acceptor import Acceptor, connection_limit, may_accept
from devnest.cluster.connections import BoundedProtocol
from devnest.cluster.control import Control
from devnest.cluster.gc_control import collecting
from devnest.cluster.keywatch import KeyWatch
from devnest.cluster.receive_buffers import ReceiveBuffers
from devnest.cluster.send_buffers import SendBuffers
from devnest.hashing import GuardedPoolRunner
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

if TYPE_CHECKING:
    from devnest.api.tracing import Tracer

__all__ = ["main"]

# An idle connection is closed after this time.
KEEP_ALIVE_S = 75
# When a server stops, clients have this long to learn from a response that their connection closes.
LINGER_S = 1.0
# Bounds the management connections of one server. They are counted apart from those of clients, so
# that health checks are answered when clients have taken all of theirs.
MAX_MANAGEMENT_CONNECTIONS = 100
# Between two checks whether all connections are closed: uvicorn has no event for that.
POLL_INTERVAL_S = 0.02
# Bounds the posts, or sessions, that one statement stores.
MAX_GROUP = 100


class Server(uvicorn.Server):
    """uvicorn's server with our acceptor, our signal handling, and a drain that no client notices.

    Args:
        config: uvicorn's settings, with the public application.
        listeners: The public listening sockets, which this server closes when it stops.
        ready: Called once connections are accepted.
        linger_s: How long clients may use their connections after the stop has begun, in seconds.
        proxies: The proxies whose `X-Forwarded-For` is believed; by default none.

    Attributes:
        send_buffers: Counts responses that clients have not read.
        receive_buffers: Counts unfinished requests.
    """

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

    def add_management(self, config: uvicorn.Config, listeners: Sequence[socket.socket]) -> None:
        """Serve the management routes on sockets of their own, with their own connection limit.

        Args:
            config: uvicorn's settings, with the management application.
            listeners: The listening sockets, which this server closes when it stops.
        """
        self._management = (config, listeners)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers; `Control.watch` has installed ours."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections, and report that this server is ready."""
        self.servers = []
        limit = connection_limit()
        connections = cast(set[BoundedProtocol], self.server_state.connections)
        config, management = self._management

        def may_accept_management() -> bool:
            return may_accept(
                [each for each in connections if each.config is config], MAX_MANAGEMENT_CONNECTIONS
            )

        self._acceptors = [
            *(
                Acceptor(each, self._protocol, lambda: may_accept(connections, limit))
                for each in self._listeners
            ),
            *(
                Acceptor(each, partial(self._protocol, config), may_accept_management)
                for each in management
            ),
        ]
        self.started = True
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, announce the end of each connection, then close the idle ones.

        For `linger_s` seconds every response says `Connection: close`, so that clients reconnect to
        another server instead of meeting a closed connection.
        """
        # A new list: requests in progress keep the old one. Of several on one connection, only the
        # last one may close it.
        self.server_state.default_headers = [
            *self.server_state.default_headers,
            (b"connection", b"close"),
        ]
        for connection in self._connections:
            connection.close_after_response()
        for acceptor in self._acceptors:
            acceptor.accept_all()
            acceptor.close()
        for acceptor in self._acceptors:
            await acceptor.wait_accepted()
        for listener in (*self._listeners, *self._management[1]):
            listener.close()
        # Count polls instead of reading the clock: while this process is not scheduled, it cannot
        # read the requests that arrive.
        polls = self._linger_s / POLL_INTERVAL_S
        while self.server_state.connections and not self.force_exit and polls > 0:
            await asyncio.sleep(POLL_INTERVAL_S)
            polls -= 1
        # The event loop runs timers before reads. One more turn reads what has arrived, so that no
        # connection with a request is taken for idle.
        await asyncio.sleep(0)
        await super().shutdown(None)
        # Clients may have begun further requests meanwhile.
        while self.force_exit and self.server_state.tasks:
            self._cancel_requests()
            await asyncio.sleep(POLL_INTERVAL_S)

    def stop(self) -> None:
        """Stop accepting and end after the requests in progress. The supervisor bounds the time."""
        self.should_exit = True

    def stop_now(self) -> None:
        """Answer the requests in progress with 503 and end without waiting for connections."""
        self._cancel_requests()
        self.should_exit = self.force_exit = True

    def _cancel_requests(self) -> None:
        """Cancel the requests in progress, which `RequestMiddleware` answers with 503."""
        for connection in self._connections:
            connection.close_after_response()
            if connection.flow.write_paused:  # its client does not read, so it would wait for ever
                connection.cut_off()
        for task in self.server_state.tasks:
            if not task.cancelling():  # cancel once, or writing the 503 would be cancelled too
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
    """Serve until the supervisor asks this process to stop.

    Args:
        control_fd: File descriptor of the control socket.
        memory_fd: File descriptor of the shared memory for metrics.
        listener_fds: File descriptors of the listening sockets, the management's last.
    """
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
        control.failed(5, str(error), transient=isinstance(error, DatabaseUnavailable))
    except PoolError as error:
        # Transient: the pool has a keeper of its own, which gives up on it if it must.
        control.failed(1, str(error), transient=True)


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
        tracer = await stack.enter_async_context(_tracing(settings, metrics))
        searches = await stack.enter_async_context(Searches(settings.database_url, database))
        if tracer is not None:
            database.observe = searches.database.observe = tracer.observe_queries
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
        runner, pool = await stack.enter_async_context(_runner(settings, tracer))
        grouped: type[GroupCommit[Any, Any]] = tracer.group_commit if tracer else GroupCommit
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
            publisher=grouped(partial(create_posts, database), MAX_GROUP),
            opener=grouped(partial(create_sessions, database), MAX_GROUP, pause_factor=0),
            tags=Tags(database),
            searches=searches,
            pool=pool,
            limited=settings.limits,
        )
        await stack.enter_async_context(Housekeeper(database))
        public = len(listeners) - settings.management_listeners
        app = create_app(
            services, settings.cors_origins, with_management=public == len(listeners), tracer=tracer
        )
        linger_s = min(LINGER_S, settings.drain_timeout_s)
        proxies = TrustedProxies(settings.trusted_proxies)
        server = Server(_config(app), listeners[:public], control.ready, linger_s, proxies)
        if public < len(listeners):
            server.add_management(_config(create_management_app(services)), listeners[public:])
        control.watch(server.stop, server.stop_now)
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
async def _tracing(settings: ServerSettings, metrics: Metrics) -> AsyncIterator["Tracer | None"]:
    if settings.otlp_endpoint is None:
        yield None
        return
    from devnest.api.exporting import exporting  # of the extra `otel`, and slow to load

    endpoint, sampling = settings.otlp_endpoint, settings.trace_sampling
    async with exporting(endpoint, sampling, settings.name, metrics) as tracer:
        yield tracer


@asynccontextmanager
async def _runner(
    settings: ServerSettings, tracer: "Tracer | None"
) -> AsyncIterator[tuple[Runner, RemotePool | None]]:
    def traced(runner: Runner) -> Runner:
        return tracer.runner(runner) if tracer else runner

    match settings.hashing:
        case Hashing.POOL:
            record_times = tracer.record_pool_times if tracer else None
            async with Pool.connect(settings.pool_url, record_times=record_times) as pool:
                yield traced(GuardedPoolRunner(pool)), pool
        case Hashing.THREAD:
            threads = ThreadRunner(settings.hash_workers)
            try:
                yield traced(threads), None
            finally:
                threads.close()
        case Hashing.INLINE:
            yield traced(InlineRunner()), None
