"""Bring a database to the newest schema."""

import asyncio
from pathlib import Path

import asyncpg
import structlog

from devnest.store.connections import connect
from devnest.store.database import Database
from devnest.store.errors import DatabaseUnavailable, DatabaseUnfit, SchemaNewer, StoreError
from devnest.store.migrations import HEAD
from devnest.store.schema import MARK_AS_OURS, read_schema
from devnest.store.unavailable import TRANSLATE_ERRORS, is_unavailable, reason_of

__all__ = ["ensure_database", "migrate"]

# Which letters PostgreSQL's search takes for the same is the locale's to say.
IGNORES_CASE = "SELECT to_tsvector('simple', 'Ü') @@ websearch_to_tsquery('simple', 'ü')"
LOCK = 0x6465766E657374  # "devnest": one migration at a time on a database
NOT_OURS = ("3F", "42")  # no schema to make tables in, or no right to: trying again does not help
# A migration takes as long as it takes: the limits of the role or the database are for other statements.
PATIENT = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
log = structlog.get_logger("devnest.store")


async def ensure_database(url: str) -> None:
    """Make the database named `devnest` of an embedded PostgreSQL where it is missing."""
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
    """Apply the revisions that are missing, all in one transaction; whether there were any.

    Args:
        url: The database.
        to_serve: A newer schema is no error where it serves this program.

    Raises:
        DatabaseUnfit: The server is too old, its encoding is not UTF-8, the database is not DevNest's, its schema is
            newer than this program, or the role may not change it. Nothing was touched.
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
    # Imported here: Alembic and SQLAlchemy take a third of a second, and most starts have nothing to migrate.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import Connection, NullPool, text
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import create_async_engine

    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option(
            "script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%")
        )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async def upgrade() -> None:
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: connect(url, server_settings=PATIENT),
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


def _translated(error: BaseException | None) -> StoreError:
    """What the failure of a revision means; SQLAlchemy has put the driver's into one of its own."""
    cause = (error and error.__cause__) or error or RuntimeError()
    sqlstate = getattr(cause, "sqlstate", None) or ""
    if is_unavailable(cause) and not sqlstate.startswith(NOT_OURS):
        return DatabaseUnavailable(reason_of(cause))
    return DatabaseUnfit(f"its schema cannot be brought up to date: {reason_of(cause)}")
