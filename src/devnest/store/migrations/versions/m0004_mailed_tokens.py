"""Confirmed e-mail addresses, and the tokens that are sent by mail."""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = [
    "ALTER TABLE accounts ADD COLUMN email_verified_at timestamptz",
    # At most one per account and purpose: a new one replaces it. `email` is where it was sent.
    """
    CREATE TABLE mailed_tokens (
        account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
        purpose text NOT NULL,
        token_sha256 bytea NOT NULL UNIQUE,
        email text NOT NULL,
        expires_at timestamptz NOT NULL,
        PRIMARY KEY (account_id, purpose)
    )
    """,
    "CREATE INDEX mailed_tokens_expires_at_idx ON mailed_tokens (expires_at)",
]


def upgrade() -> None:
    """Add both. Existing addresses count as unconfirmed."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop both."""
    op.execute("DROP TABLE mailed_tokens")
    op.execute("ALTER TABLE accounts DROP COLUMN email_verified_at")
