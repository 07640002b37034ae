"""The schema of a database: whose it is, its revision, and the programs it serves.

The table `devnest_schema` marks a database as DevNest's. Its only row has the schema's revision and
`oldest_program`. A program works with the schema if the newest revision that the program knows is
at least `oldest_program`. So a node can keep running, and restart, after another node has migrated
the database.

Alembic stores the revision in this table too (`migrations/env.py`). Its default table
`alembic_version` could belong to another program.
"""

import re
from typing import NamedTuple

import asyncpg

from devnest.store.database import Database
from devnest.store.errors import DatabaseUnfit, ForeignDatabase, SchemaBehind, SchemaNewer
from devnest.store.migrations import HEAD, VERSION_TABLE
from devnest.store.postgres.binaries import MIN_MAJOR

__all__ = ["MARK_AS_OURS", "Schema", "check_schema", "read_schema"]

SERVER = (
    "SELECT current_setting('server_version_num') AS version,"
    " current_setting('server_encoding') AS encoding"
)

# The objects that a person or a program has created. Objects of PostgreSQL and of extensions do not
# count, because some hosts install extensions in every database.
OBJECTS = """
SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE c.relkind NOT IN ('i', 'I', 't') AND {made} AND NOT EXISTS (SELECT FROM pg_depend
        WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
UNION ALL
SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
    WHERE {made} AND NOT EXISTS (SELECT FROM pg_depend
        WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
UNION ALL
SELECT t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
    WHERE typtype IN ('d', 'e', 'r') AND {made} AND NOT EXISTS (SELECT FROM pg_depend
        WHERE classid = 'pg_type'::regclass AND objid = t.oid AND deptype = 'e')
""".replace("{made}", "nspname !~ '^pg_' AND nspname <> 'information_schema'")

# Databases of early development lack `devnest_schema`. They contain exactly these objects.
UNMARKED_REVISION = "0007"
UNMARKED = [
    "accounts", "alembic_version", "audit_log", "comments", "held_names", "idempotency_keys",
    "keep_to_held_names", "mailed_tokens", "posts", "refresh_tokens", "sessions",
    "tell_session_ended", "throttles",
]  # fmt: skip

# This runs before Alembic looks for the table. It is idempotent, because another program may have
# run it meanwhile.
MARK_AS_OURS = f"""
DO $$ BEGIN
IF to_regclass('{VERSION_TABLE}') IS NULL THEN
    IF to_regclass('alembic_version') IS NULL THEN
        CREATE TABLE {VERSION_TABLE} (version_num varchar(32) PRIMARY KEY);
    ELSE
        ALTER TABLE alembic_version RENAME TO {VERSION_TABLE};
    END IF;
    ALTER TABLE {VERSION_TABLE}
        ADD COLUMN oldest_program text NOT NULL DEFAULT '{UNMARKED_REVISION}';
END IF;
END $$
"""


REVISION = re.compile("[0-9]{4}")  # the names of revisions: 0001, 0002, …


class Schema(NamedTuple):
    """The row of `devnest_schema`."""

    revision: str
    oldest_program: str


async def check_schema(database: Database) -> None:
    """Check that this program works with the schema, which may be a newer one.

    Raises:
        SchemaBehind: The schema is older, or missing.
        SchemaNewer: The schema is newer and no longer serves this program.
        DatabaseUnfit: The database cannot have a schema of DevNest.
    """
    found = await read_schema(database)
    if found is None or found.revision < HEAD:
        raise SchemaBehind(found and found.revision, HEAD)
    if found.oldest_program > HEAD:
        raise SchemaNewer(found.revision, found.oldest_program, HEAD)


async def read_schema(database: Database) -> Schema | None:
    """Return what the database says about its schema, or None if it is empty.

    Raises:
        DatabaseUnfit: The database belongs to another program, its PostgreSQL is too old, or its
            encoding is not UTF-8.
    """
    row = await database.fetch_row(SERVER)
    assert row is not None
    major, encoding = int(row["version"]) // 10_000, row["encoding"]
    if major < MIN_MAJOR:
        raise DatabaseUnfit(f"it is PostgreSQL {major}, DevNest needs {MIN_MAJOR} or newer")
    if encoding != "UTF8":
        raise DatabaseUnfit(
            f"its encoding is {encoding}, DevNest needs UTF8: make another with ENCODING 'UTF8'"
        )
    if await database.fetch_value(f"SELECT to_regclass('{VERSION_TABLE}') IS NOT NULL"):
        columns = "version_num::text, oldest_program::text"
        rows = await _rows(database, f"SELECT {columns} FROM {VERSION_TABLE}")  # noqa: S608
        if len(rows) != 1 or not all(REVISION.fullmatch(value or "") for value in rows[0]):
            raise DatabaseUnfit(f"its table {VERSION_TABLE} is not as DevNest makes it")
        return Schema(*rows[0])
    # One more row than an unmarked database has is enough to tell it from any other.
    rows = await database.fetch(f"{OBJECTS} LIMIT {len(UNMARKED) + 1}")
    objects = sorted(row["name"] for row in rows)
    if objects == UNMARKED:
        revisions = [
            row["version_num"]
            for row in await _rows(database, "SELECT version_num FROM alembic_version")
        ]
        if revisions == [UNMARKED_REVISION]:
            return Schema(UNMARKED_REVISION, UNMARKED_REVISION)
    if objects:
        raise ForeignDatabase(objects[0])
    return None


async def _rows(database: Database, query: str) -> list[asyncpg.Record]:
    """Return the rows of a table, or none if the table of another program has other columns."""
    try:
        return await database.fetch(query)
    except asyncpg.UndefinedColumnError:
        return []
