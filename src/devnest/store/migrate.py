"""Migrations: bring a database to the newest schema."""

import asyncio
from pathlib import Path

import asyncpg
import structlog

from devnest.store.connections import Connection, connect
from devnest.store.database import Database
from devnest.store.errors import DatabaseUnavailable, DatabaseUnfit, SchemaNewer, StoreError
from devnest.store.migrations import HEAD
from devnest.store.schema import MARK_AS_OURS, read_schema
from devnest.store.unavailable import TRANSLATE_ERRORS, is_unavailable, reason_of

__all__ = ["ensure_database", "migrate"]

# The locale decides which letters PostgreSQL's search treats as the same.
IGNORES_CASE = "SELECT to_tsvector('simple', 'Ü') @@ websearch_to_tsquery('simple', 'ü')"
LOCK = 0x6465766E657374  # "devnest": an advisory lock allows one migration of a database at a time
NOT_OURS = ("3F", "42")  # no schema to create tables in, or no right to: retrying does not help
# A migration may take any time. The limits of the role or the database are meant for other
# statements. A pooler may refuse or ignore them as parameters of the connection.
UNLIMITED = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
log = structlog.get_logger("devnest.store")


async def ensure_database(url: str) -> None:
    """Create the database `devnest` of an embedded PostgreSQL if it is missing.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    try:
        connection = await connect(url)
    except DatabaseUnavailable as error:
        if not isinstance(error.__cause__, asyncpg.InvalidCatalogNameError):
            raise
        connection = await connect(url, database="postgres")
        with TRANSLATE_ERRORS:
            await connection.execute("CREATE DATABASE devnest")
    await connection.close()


async def migrate(url: str, *, to_serve: bool = False) -> bool:
    """Apply the missing revisions in one transaction.

    Args:
        url: The database.
        to_serve: Accept a newer schema if it serves this program.

    Returns:
        Whether any revision was missing.

    Raises:
        DatabaseUnfit: The server is too old, its encoding is not UTF-8, the database is not
            DevNest's, its schema is newer than this program, or the role may not change it. Nothing
            was changed.
        DatabaseUnavailable: It does not answer, or cannot be written to.
    """
    async with Database(url, connections=1) as database:
        found = await read_schema(database)
        if not await database.fetch_value(IGNORES_CASE):
            log.warning(
                "search does not ignore the case of letters outside ASCII",
                needs="an LC_CTYPE other than C",
            )
        if (
            found is not None
            and found.revision > HEAD
            and not (to_serve and found.oldest_program <= HEAD)
        ):
            raise SchemaNewer(found.revision, found.oldest_program, HEAD)
        if found is not None and found.revision >= HEAD:
            return False
    await asyncio.to_thread(_upgrade, url)
    return True


def _upgrade(url: str) -> None:
    # Imported here: Alembic and SQLAlchemy take a third of a second to load, and most starts have
    # nothing to migrate.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import Connection as Migration
    from sqlalchemy import NullPool, text
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import create_async_engine

    def run(connection: Migration) -> None:
        config = Config()
        config.set_main_option(
            "script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%")
        )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async def upgrade() -> None:
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: _connect_without_limits(url),
            poolclass=NullPool,
        )
        try:
            async with engine.begin() as connection:
                await connection.execute(
                    text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK}
                )
                await connection.execute(text(MARK_AS_OURS))
                await connection.run_sync(run)
        except DBAPIError as error:
            raise _translated(error.orig) from error
        finally:
            await engine.dispose()

    with TRANSLATE_ERRORS:
        asyncio.run(upgrade())


async def _connect_without_limits(url: str) -> Connection:
    """Connect; SQLAlchemy sends statements of its own before the first of ours."""
    connection = await connect(url, server_settings={"statement_timeout": "0"})
    await connection.execute("; ".join(f"SET {limit} = 0" for limit in UNLIMITED))
    return connection


def _translated(error: BaseException | None) -> StoreError:
    """Return the store's error for a failed revision. SQLAlchemy wraps the driver's error."""
    cause = (error and error.__cause__) or error or RuntimeError()
    sqlstate = getattr(cause, "sqlstate", None) or ""
    if is_unavailable(cause) and not sqlstate.startswith(NOT_OURS):
        return DatabaseUnavailable(reason_of(cause))
    return DatabaseUnfit(f"its schema cannot be brought up to date: {reason_of(cause)}")
