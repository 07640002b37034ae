"""Failures are forgotten one by one, and devices have a counter of their own."""

from alembic import op

revision = "0013"
down_revision = "0012"
oldest_program = "0013"

STATEMENTS = [
    # What its device tokens are signed with (ADR 0046). One for each account, so that a reset makes a new one.
    "ALTER TABLE accounts ADD COLUMN device_key uuid NOT NULL DEFAULT gen_random_uuid()",
    "DROP TABLE throttles",
    # `empty_at`: when all failures will have been forgotten, if no other comes. Unlogged: a crash forgets some, and in
    # return counting one costs no wait for the disk.
    """
    CREATE UNLOGGED TABLE throttles (
        key bytea PRIMARY KEY,
        empty_at timestamptz NOT NULL,
        blocked_until timestamptz NOT NULL,
        told boolean NOT NULL
    )
    """,
    "CREATE INDEX throttles_empty_at_idx ON throttles (empty_at)",
]
BEFORE = [
    """
    CREATE UNLOGGED TABLE throttles (
        key bytea PRIMARY KEY,
        failures integer NOT NULL,
        free integer NOT NULL,
        longest interval NOT NULL,
        last_at timestamptz NOT NULL,
        blocked_until timestamptz NOT NULL,
        told boolean NOT NULL
    )
    """,
    "CREATE INDEX throttles_last_at_idx ON throttles (last_at)",
]


def upgrade() -> None:
    """Make the counters anew; the failures of the last hour are forgotten."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Back, without any failures."""
    op.execute("DROP TABLE throttles")
    op.execute("ALTER TABLE accounts DROP COLUMN device_key")
    for statement in BEFORE:
        op.execute(statement)
