"""Sessions that expire, rotate and end; accounts that an operator can disable."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = [
    "ALTER TABLE accounts ADD COLUMN disabled_at timestamptz",
    """
    ALTER TABLE sessions
        ADD COLUMN last_used_at timestamptz NOT NULL DEFAULT now(),
        ADD COLUMN expires_at timestamptz NOT NULL DEFAULT now() + interval '30 days',
        ADD COLUMN ended_at timestamptz,
        ADD COLUMN address text,
        ADD COLUMN user_agent text
    """,
    # Servers read the ended sessions by this index, to refuse their access tokens.
    "CREATE INDEX sessions_ended_at_idx ON sessions (ended_at) WHERE ended_at IS NOT NULL",
    # `seed` generates the token's successor and is deleted when the successor is used.
    "ALTER TABLE refresh_tokens ADD COLUMN replaced_at timestamptz, ADD COLUMN seed bytea",
    # A trigger, so that every server is notified however the session ends, even by hand in psql.
    """
    CREATE FUNCTION tell_session_ended() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('devnest_session_ended', NEW.id::text);
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER sessions_ended AFTER UPDATE OF ended_at ON sessions FOR EACH ROW
    WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION tell_session_ended()
    """,
]


def upgrade() -> None:
    """Add the columns. Existing sessions expire in 30 days at the latest."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the columns. Ended sessions are deleted first, because they would become valid again."""
    op.execute("DELETE FROM sessions WHERE ended_at IS NOT NULL OR expires_at <= now()")
    op.execute("DELETE FROM refresh_tokens WHERE replaced_at IS NOT NULL")
    op.execute("DROP TRIGGER sessions_ended ON sessions")
    op.execute("DROP FUNCTION tell_session_ended()")
    op.execute("ALTER TABLE refresh_tokens DROP COLUMN replaced_at, DROP COLUMN seed")
    op.execute(
        "ALTER TABLE sessions DROP COLUMN last_used_at, DROP COLUMN expires_at, DROP COLUMN ended_at,"
        " DROP COLUMN address, DROP COLUMN user_agent"
    )
    op.execute("ALTER TABLE accounts DROP COLUMN disabled_at")
