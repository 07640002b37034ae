"""The audit log, and the counters that slow down guessing."""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = [
    # No foreign keys: the log stays when the account is deleted.
    """
    CREATE TABLE audit_log (
        id uuid PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(),
        event text NOT NULL,
        succeeded boolean NOT NULL,
        reason text,
        account_id uuid,
        session_id uuid,
        address text,
        user_agent text,
        request_id text
    )
    """,
    "CREATE INDEX audit_log_account_id_idx ON audit_log (account_id, id)",
    "CREATE INDEX audit_log_at_idx ON audit_log USING brin (at)",
    # Unlogged: a crash loses some failures, but counting one never waits for the disk.
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
    "CREATE INDEX sessions_over_idx ON sessions (coalesce(ended_at, expires_at))",
]


def upgrade() -> None:
    """Create both tables, and the index by which housekeeping finds old sessions."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables with their contents."""
    op.execute("DROP INDEX sessions_over_idx")
    op.execute("DROP TABLE throttles, audit_log")
