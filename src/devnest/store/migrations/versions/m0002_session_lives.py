"""Sessions that last, rotate and end; accounts that an operator can disable."""

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
    # What a server reads to know whose access tokens no longer count.
    "CREATE INDEX sessions_ended_at_idx ON sessions (ended_at) WHERE ended_at IS NOT NULL",
    # `seed` makes a token's successor, and is kept only until that successor is used.
    "ALTER TABLE refresh_tokens ADD COLUMN replaced_at timestamptz, ADD COLUMN seed bytea",
    # A trigger, so that whatever ends a session tells every server, a hand at psql included.
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
    """Add the columns; sessions that exist live 30 days from now at most."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; ended sessions would come back to life, so they go first."""
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
