"""Bounds for sessions: numbered refresh tokens, and an index of an account's live sessions."""

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = [
    # How many tokens of the session came before. The table is not rewritten: existing sessions
    # start to count from 0, and their old tokens are 0 as well. Only the token before the newest is
    # looked up by its number.
    "ALTER TABLE refresh_tokens ADD COLUMN number integer NOT NULL DEFAULT 0",
    "UPDATE refresh_tokens SET number = -1 WHERE seed IS NOT NULL",
    "CREATE INDEX refresh_tokens_number_idx ON refresh_tokens (session_id, number)",
    "DROP INDEX refresh_tokens_session_id_idx",
    # Each sign-in counts the live sessions, and an account may have many ended ones.
    "CREATE INDEX sessions_account_idx ON sessions (account_id, ended_at)",
    "DROP INDEX sessions_account_id_idx",
]


def upgrade() -> None:
    """Add the column, and replace both indexes by wider ones."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the column and restore the indexes."""
    op.execute("CREATE INDEX sessions_account_id_idx ON sessions (account_id)")
    op.execute("DROP INDEX sessions_account_idx")
    op.execute("CREATE INDEX refresh_tokens_session_id_idx ON refresh_tokens (session_id)")
    op.execute("DROP INDEX refresh_tokens_number_idx")
    op.execute("ALTER TABLE refresh_tokens DROP COLUMN number")
