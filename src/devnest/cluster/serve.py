"""Runs `devnest serve`: opens what it needs, in order, and starts the supervisor.

The order is: listening sockets, data directory, signing keys, PostgreSQL, the pool's socket. So the
failures that an operator can cause come first, and a second DevNest fails before it touches a file.
"""

import asyncio
import os
import resource
import socket
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import structlog

from devnest.cluster.child import Child
from devnest.cluster.keeper import Keeper
from devnest.cluster.notify import notify
from devnest.cluster.runtime_dir import POOL_SOCKET, runtime_directory
from devnest.cluster.sockets import PortUnavailable, address_of, listen
from devnest.cluster.supervisor import Supervisor
from devnest.keys import ensure_keys, load_keys
from devnest.process_registry import ProcessRegistry
from devnest.settings import Hashing, PoolSettings, ServerSettings, Settings
from devnest.shared_memory import SharedMemory
from devnest.store import (
    DataDirectory,
    DataDirectoryInUse,
    EmbeddedPostgres,
    ensure_database,
    migrate,
)

__all__ = ["serve"]

# Slots of the shared memory; the supervisor's own is 0 (`devnest.process_registry`).
POOL_SLOT, FIRST_SERVER_SLOT = 1, 2
# Between two tries to lock a data directory that a command such as `devnest user` uses.
LOCK_POLL_INTERVAL_S = 0.1
log = structlog.get_logger("devnest.cluster")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, and return after a clean stop.

    Args:
        settings: The options of `devnest serve`.

    Raises:
        PortUnavailable: An address cannot be listened on.
        StoreError: The data directory or the database cannot be used.
        KeysUnusable: The signing keys cannot be read.
        ChildFailed: A process cannot start, now or later.
    """
    _raise_descriptor_limit()
    with ExitStack() as stack:
        public, management = _listen(settings, stack)
        data_dir = DataDirectory(settings.data_dir)
        _open(data_dir)
        stack.callback(data_dir.close)
        keys = settings.signing_key_file or ensure_keys(data_dir.path)
        load_keys(keys)
        if keys.stat().st_mode & 0o077:
            log.warning("other users can read the signing keys, or change them", file=str(keys))
        postgres = None
        if settings.database_url is None:
            postgres = EmbeddedPostgres(data_dir, settings.postgres_bin)
            stack.callback(postgres.stop)
            postgres.launch()
        pool_socket = stack.enter_context(runtime_directory(data_dir.path)) / POOL_SOCKET
        asyncio.run(
            _supervise(settings, public, management, keys.absolute(), postgres, pool_socket)
        )
        log.info("stopped")


def _open(data_dir: DataDirectory) -> None:
    """Lock the data directory; wait while a command such as `devnest user` uses it."""
    is_logged = False
    while True:
        try:
            data_dir.open(to_serve=True)
            return
        except DataDirectoryInUse as busy:
            if not busy.transient:
                raise
            if not is_logged:
                log.warning("waiting for a command that uses the data directory", pid=busy.pid)
                is_logged = True
            time.sleep(LOCK_POLL_INTERVAL_S)


async def _supervise(
    settings: Settings,
    public: list[socket.socket],
    management: list[socket.socket],
    keys: Path,
    postgres: EmbeddedPostgres | None,
    pool_socket: Path,
) -> None:
    memory = _shared_memory()
    registry = ProcessRegistry(memory)

    def database_url() -> str:
        return settings.database_url or (postgres.url if postgres else "")

    def make_server(number: int, cpu: int | None) -> Keeper:
        name = f"server-{number}"

        def server_settings() -> ServerSettings:
            return ServerSettings(
                name=name,
                management_listeners=len(management),
                metrics_slot=FIRST_SERVER_SLOT + number,
                database_url=database_url(),
                signing_keys=str(keys),
                hashing=settings.hashing,
                hash_scheme=settings.hash_scheme,
                hash_cost=settings.hash_cost,
                hash_workers=settings.hash_workers,
                pool_url=f"unix://{pool_socket}",
                drain_timeout_s=settings.drain_timeout_s,
                trusted_proxies=settings.trusted_proxies,
                cors_origins=settings.cors_origins,
                log_level=settings.log_level,
                limits=settings.limits,
                password_min_length=settings.password_min_length,
                breached_passwords=str(settings.breached_passwords.absolute())
                if settings.breached_passwords
                else None,
                smtp_url=settings.smtp_url,
                mail_file=str(settings.data_dir.absolute() / "mail.mbox"),
                mail_from=settings.mail_from,
                otlp_endpoint=settings.otlp_endpoint,
                trace_sampling=settings.trace_sampling,
            )

        inherited = (memory.fd, *(listener.fileno() for listener in (*public, *management)))
        return Keeper(
            lambda: Child(name, "devnest.cluster.server", inherited, cpu), server_settings, registry
        )

    pool = None
    if settings.hashing is Hashing.POOL:
        pool_settings = PoolSettings(
            "pool",
            POOL_SLOT,
            str(pool_socket),
            settings.hash_workers,
            settings.hash_nice,
            settings.log_level,
        )
        pool = Keeper(
            lambda: Child("pool", "devnest.cluster.hashing_pool", (memory.fd,)),
            lambda: pool_settings,
            registry,
        )

    async def prepare() -> None:
        if postgres is not None:
            await ensure_database(postgres.url)
            if await migrate(postgres.url, to_serve=True):
                log.info("schema migrated")

    def ready() -> None:
        lines = f"DevNest ready on http://{address_of(settings.host, public)}\n"
        if settings.management is not None:
            lines += (
                f"DevNest management on http://{address_of(settings.management[0], management)}\n"
            )
        sys.stdout.write(lines + _description(settings, public))
        sys.stdout.flush()
        notify("READY=1")

    listeners = [*public, *management]
    supervisor = Supervisor(
        make_server,
        pool,
        postgres,
        listeners,
        settings.drain_timeout_s,
        registry,
        _cpus_for_servers(settings),
    )
    await supervisor.run(settings.processes, prepare, ready)


def _description(settings: Settings, public: list[socket.socket]) -> str:
    """Return the lines that say what runs, below the ready line."""
    if settings.database_url is None:
        data = f"{settings.data_dir}, with a PostgreSQL of its own"
    else:
        data = f"{settings.data_dir}; accounts and posts are in the database that was named"
    lanes = (
        f" of up to {_count(settings.lanes, 'lane')}" if settings.hash_scheme == "bcrypt" else ""
    )
    hashing = {
        Hashing.POOL: f"{_count(settings.hash_workers, 'worker')}{lanes}",
        Hashing.THREAD: f"{_count(settings.hash_workers, 'thread')} in each server",
        Hashing.INLINE: "passwords are hashed on the event loop",
    }[settings.hashing]
    return (
        f"  API:       http://{address_of(settings.host, public)}/docs\n"
        f"  data:      {data}\n"
        f"  processes: {_count(settings.processes, 'server')}, {hashing}\n"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listen(
    settings: Settings, stack: ExitStack
) -> tuple[list[socket.socket], list[socket.socket]]:
    """Open the public listening sockets, and those for management if it has its own address."""
    address = (settings.host, settings.port)
    if settings.management == address and settings.port:
        raise PortUnavailable(*address, "--management needs an address of its own")
    public = [stack.enter_context(listener) for listener in listen(*address)]
    management = (
        [stack.enter_context(listener) for listener in listen(*settings.management)]
        if settings.management
        else []
    )
    return public, management


def _shared_memory() -> SharedMemory:
    """Make the shared memory for metrics; without it each server reports only itself."""
    try:
        return SharedMemory.create()
    except OSError as error:
        log.warning("metrics not shared", reason=str(error))
        return SharedMemory.discarding()


def _cpus_for_servers(settings: Settings) -> list[int]:
    """Return the CPUs to bind servers to, one each, or none if Linux is to place them.

    Servers are bound if there is one for each CPU and hashing is done by the pool (ADR 0004).
    """
    if settings.hashing is not Hashing.POOL or not hasattr(os, "sched_getaffinity"):
        return []
    cpus = sorted(os.sched_getaffinity(0))
    return cpus if len(cpus) == settings.processes else []


def _raise_descriptor_limit() -> None:
    """Raise the limit of open file descriptors as far as permitted; each connection needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS permits less than its hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
