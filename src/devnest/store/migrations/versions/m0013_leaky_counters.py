"""Failures that are forgotten one by one, and separate counters for known devices."""

from alembic import op

revision = "0013"
down_revision = "0012"
oldest_program = "0013"

STATEMENTS = [
    # The key that signs device tokens (ADR 0046). Each account has its own, so that a reset can
    # replace it.
    "ALTER TABLE accounts ADD COLUMN device_key uuid NOT NULL DEFAULT gen_random_uuid()",
    "DROP TABLE throttles",
    # `empty_at` is when all failures will be forgotten if no other comes. Unlogged: a crash loses
    # some failures, but counting one never waits for the disk.
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
    """Replace the counters. The failures of the last hour are lost."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Restore the former table, empty."""
    op.execute("DROP TABLE throttles")
    op.execute("ALTER TABLE accounts DROP COLUMN device_key")
    for statement in BEFORE:
        op.execute(statement)
