"""What sessions can cost: refresh tokens are numbered, and an account's live sessions found among its ended ones."""

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = [
    # How many of the session came before. No table is written anew for it: sessions that exist begin to count now,
    # from 0, which their old tokens have too. Only the one before the newest is looked for by its number.
    "ALTER TABLE refresh_tokens ADD COLUMN number integer NOT NULL DEFAULT 0",
    "UPDATE refresh_tokens SET number = -1 WHERE seed IS NOT NULL",
    "CREATE INDEX refresh_tokens_number_idx ON refresh_tokens (session_id, number)",
    "DROP INDEX refresh_tokens_session_id_idx",
    # Each sign-in counts the live ones, and an account may have ended any number in the last weeks.
    "CREATE INDEX sessions_account_idx ON sessions (account_id, ended_at)",
    "DROP INDEX sessions_account_id_idx",
]


def upgrade() -> None:
    """Add the column, and both indexes in the place of narrower ones."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Forget the numbers."""
    op.execute("CREATE INDEX sessions_account_id_idx ON sessions (account_id)")
    op.execute("DROP INDEX sessions_account_idx")
    op.execute("CREATE INDEX refresh_tokens_session_id_idx ON refresh_tokens (session_id)")
    op.execute("DROP INDEX refresh_tokens_number_idx")
    op.execute("ALTER TABLE refresh_tokens DROP COLUMN number")
