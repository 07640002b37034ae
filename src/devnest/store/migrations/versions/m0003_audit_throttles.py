"""The audit log, and the counters that slow guessing down."""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = [
    # No foreign keys: what happened stays true when the account has gone.
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
    # Unlogged: a crash forgets some failures, and in return counting one costs no wait for the disk.
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
    """Make both tables, and the index that housekeeping reads sessions by."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop them, with all that is in them."""
    op.execute("DROP INDEX sessions_over_idx")
    op.execute("DROP TABLE throttles, audit_log")
