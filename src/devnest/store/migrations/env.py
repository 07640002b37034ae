"""Alembic's environment: runs the revisions on the connection of `devnest.store.migrate`."""

from typing import Any, cast

from alembic import context
from sqlalchemy import text

from devnest.store.migrations import VERSION_TABLE

connection = context.config.attributes["connection"]


def applied(*, step: Any, **_: Any) -> None:
    """Store the revision's `oldest_program`. The first revisions have none, and no table for it."""
    if step.is_upgrade and (oldest := getattr(step.up_revision.module, "oldest_program", None)):
        update = f"UPDATE {VERSION_TABLE} SET oldest_program = :oldest"  # noqa: S608
        connection.execute(text(update), {"oldest": oldest})


context.configure(
    connection=connection,
    transactional_ddl=True,
    version_table=VERSION_TABLE,
    on_version_apply=cast(Any, applied),
)
with context.begin_transaction():
    context.run_migrations()
