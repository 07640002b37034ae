"""Several valid codes per account, and a count of the mails sent to each mailbox."""

from alembic import op

revision = "0012"
down_revision = "0011"
oldest_program = "0012"  # older programs need the primary key that is dropped here

STATEMENTS = [
    "ALTER TABLE mailed_tokens DROP CONSTRAINT mailed_tokens_pkey",
    "ALTER TABLE mailed_tokens DROP CONSTRAINT mailed_tokens_token_sha256_key",
    "ALTER TABLE mailed_tokens ADD PRIMARY KEY (token_sha256)",
    "CREATE INDEX mailed_tokens_account_id_idx ON mailed_tokens (account_id, purpose)",
    # `key` is the SHA-256 of an allowance and an address, which may belong to no account. Unlogged,
    # like `throttles`.
    "CREATE UNLOGGED TABLE mailboxes (key bytea PRIMARY KEY, counted_until timestamptz NOT NULL)",
    "CREATE INDEX mailboxes_counted_until_idx ON mailboxes (counted_until)",
]


def upgrade() -> None:
    """Change the keys. Existing codes stay valid, and no mail is counted yet."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Keep only the newest code per account and purpose."""
    op.execute("DROP TABLE mailboxes")
    op.execute(
        "DELETE FROM mailed_tokens t USING mailed_tokens n WHERE t.account_id = n.account_id AND t.purpose = n.purpose"
        " AND (t.expires_at, t.token_sha256) < (n.expires_at, n.token_sha256)"
    )
    op.execute("DROP INDEX mailed_tokens_account_id_idx")
    op.execute("ALTER TABLE mailed_tokens DROP CONSTRAINT mailed_tokens_pkey")
    op.execute("ALTER TABLE mailed_tokens ADD UNIQUE (token_sha256)")
    op.execute("ALTER TABLE mailed_tokens ADD PRIMARY KEY (account_id, purpose)")
