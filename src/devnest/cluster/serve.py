"""`devnest serve`: everything a DevNest needs, started in order and stopped in the reverse."""

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path

import structlog

from devnest.cluster.server import run_server
from devnest.cluster.sockets import address_of, listen
from devnest.settings import Settings
from devnest.store import DataDirectory, DataDirectoryError, EmbeddedPostgres, ensure_database, migrate

__all__ = ["serve"]

SHORTEST_KEY_BYTES = 32
log = structlog.get_logger("devnest.cluster")


def serve(settings: Settings) -> None:
    """Run until told to stop; returns after a clean stop.

    Raises `StoreError` or `PortUnavailable` where it cannot start.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(listen(settings.host, settings.port))
        data_dir = DataDirectory(settings.data_dir)
        data_dir.open()
        stack.callback(data_dir.close)
        key = _signing_key(settings.signing_key_file, data_dir)
        database_url = settings.database_url or _embedded(data_dir, settings.postgres_bin, stack)
        address = address_of(listener)

        def ready() -> None:
            sys.stdout.write(f"DevNest ready on http://{address}\n")
            sys.stdout.flush()

        run_server(settings, listener, database_url, key, ready)
        log.info("stopped")


def _embedded(data_dir: DataDirectory, postgres_bin: Path | None, stack: ExitStack) -> str:
    postgres = EmbeddedPostgres(data_dir, postgres_bin)
    stack.callback(postgres.stop)
    postgres.start()
    log.info("postgresql started", data_dir=str(data_dir.path), pid=postgres.pid)
    asyncio.run(_prepare(postgres.url))
    return postgres.url


async def _prepare(url: str) -> None:
    await ensure_database(url)
    if await migrate(url):
        log.info("schema migrated")


def _signing_key(given: Path | None, data_dir: DataDirectory) -> bytes:
    if given is None:
        return data_dir.signing_key()
    try:
        key = given.read_bytes().strip()
    except OSError as error:
        raise DataDirectoryError(given, error.strerror or str(error)) from error
    if len(key) < SHORTEST_KEY_BYTES:
        raise DataDirectoryError(given, f"the signing key has {len(key)} bytes, {SHORTEST_KEY_BYTES} are needed")
    return key
