"""One server process: an event loop that answers HTTP on a socket it is given."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import uvicorn
import uvloop

from devnest.api import ACCESS_TOKEN_LIFETIME_S, LEEWAY_S, Services, TokenIssuer, create_app
from devnest.mail import FolderTransport, Outbox, SmtpTransport
from devnest.passwords import BreachedFile, Hasher, InlineRunner, Policy, Runner, ThreadRunner
from devnest.settings import Hashing, Settings
from devnest.store import Database, Housekeeper, RevokedSessions

__all__ = ["run_server"]

KEEP_ALIVE_S = 75


class Server(uvicorn.Server):
    """uvicorn's server, with the signals left to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none: `run_server` has."""
        yield

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that requests are answered once they are."""
        await super().startup(sockets)
        self._ready()

    def stop(self) -> None:
        """Drain; at the second call stop at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


def run_server(
    settings: Settings, listener: socket.socket, database_url: str, key: bytes, ready: Callable[[], None]
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called once requests are answered.

    Raises `StoreError` where the database cannot be used.
    """
    uvloop.run(_serve(settings, listener, database_url, key, ready))


async def _serve(
    settings: Settings, listener: socket.socket, database_url: str, key: bytes, ready: Callable[[], None]
) -> None:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(database_url))
        await database.check_version()
        await database.check_schema()
        runner = await stack.enter_async_context(_runner(settings))
        revoked = await stack.enter_async_context(RevokedSessions(database_url, ACCESS_TOKEN_LIFETIME_S + LEEWAY_S))
        await stack.enter_async_context(Housekeeper(database))
        outbox = await stack.enter_async_context(_outbox(settings))
        breached = BreachedFile(settings.breached_passwords) if settings.breached_passwords else None
        services = Services(
            database,
            Hasher(runner, settings.hash_cost),
            TokenIssuer(key),
            revoked,
            outbox,
            Policy(settings.password_min_length, breached),
            settings.limits,
        )
        server = Server(
            uvicorn.Config(
                create_app(services),
                http="httptools",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=settings.drain_timeout_s,  # type: ignore[arg-type]
            ),
            ready,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        await server.serve([listener])


def _outbox(settings: Settings) -> Outbox:
    if settings.smtp_url is not None:
        return Outbox(SmtpTransport(settings.smtp_url), settings.mail_from)
    return Outbox(FolderTransport(settings.data_dir / "mail"), settings.mail_from)


@asynccontextmanager
async def _runner(settings: Settings) -> AsyncIterator[Runner]:
    match settings.hashing:
        case Hashing.INLINE:
            yield InlineRunner()
        case Hashing.THREAD:
            runner = ThreadRunner(settings.hash_workers)
            try:
                yield runner
            finally:
                runner.close()
