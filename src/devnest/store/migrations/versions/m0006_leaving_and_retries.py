"""Deleted accounts, changed names that stay reserved, and answers kept for retries."""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = [
    "ALTER TABLE accounts ADD COLUMN deleted_at timestamptz",
    # A name that was given up. Only `account_id` may take it back.
    """
    CREATE TABLE held_names (
        username text PRIMARY KEY,
        account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
        until timestamptz NOT NULL
    )
    """,
    "CREATE INDEX held_names_account_id_idx ON held_names (account_id, until)",
    "CREATE INDEX held_names_until_idx ON held_names (until)",
    # A trigger, so that no way to create or rename an account bypasses it. It runs after the row is
    # in the unique index. So it has waited for a transaction that is giving up the same name, and
    # each of its statements sees the result.
    """
    CREATE FUNCTION keep_to_held_names() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM held_names WHERE username = lower(NEW.username) AND until > now()
                AND account_id <> NEW.id) THEN
            RAISE unique_violation USING CONSTRAINT = 'accounts_username_key',
                MESSAGE = 'the username was given up not long ago';
        END IF;
        IF TG_OP = 'UPDATE' THEN
            INSERT INTO held_names VALUES (lower(OLD.username), OLD.id, now() + interval '90 days')
                ON CONFLICT (username) DO UPDATE SET account_id = excluded.account_id, until = excluded.until;
            DELETE FROM held_names WHERE account_id = NEW.id AND (username = lower(NEW.username)
                OR username NOT IN (SELECT h.username FROM held_names h WHERE h.account_id = NEW.id
                    ORDER BY h.until DESC, h.username LIMIT 3));
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER accounts_named AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION keep_to_held_names()
    """,
    """
    CREATE TRIGGER accounts_renamed AFTER UPDATE OF username ON accounts FOR EACH ROW
    WHEN (lower(OLD.username) <> lower(NEW.username)) EXECUTE FUNCTION keep_to_held_names()
    """,
    # `id` is the SHA-256 of route, caller and key. `answer` is the response, as JSON.
    """
    CREATE TABLE idempotency_keys (
        id bytea PRIMARY KEY,
        fingerprint bytea NOT NULL,
        account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
        answer bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX idempotency_keys_account_id_idx ON idempotency_keys (account_id)",
    "CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at)",
]


def upgrade() -> None:
    """Create them. No name is reserved yet."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop them. The posts and comments of deleted accounts are deleted too."""
    op.execute("DROP TABLE idempotency_keys")
    op.execute("DROP TRIGGER accounts_renamed ON accounts")
    op.execute("DROP TRIGGER accounts_named ON accounts")
    op.execute("DROP FUNCTION keep_to_held_names()")
    op.execute("DROP TABLE held_names")
    for table in ("comments", "posts"):
        of_deleted = "USING accounts a WHERE author_id = a.id AND deleted_at IS NOT NULL"
        op.execute(f"DELETE FROM {table} {of_deleted}")  # noqa: S608 # our own names
    op.execute("DELETE FROM accounts WHERE deleted_at IS NOT NULL")
    op.execute("ALTER TABLE accounts DROP COLUMN deleted_at")
