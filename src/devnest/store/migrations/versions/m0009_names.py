"""Reserve every name that was given up, and count the changes of name of each account."""

from alembic import op

revision = "0009"
down_revision = "0008"
oldest_program = "0008"

FUNCTION = """
CREATE OR REPLACE FUNCTION keep_to_held_names() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM held_names WHERE username = lower(NEW.username) AND until > now()
            AND account_id <> NEW.id) THEN
        RAISE unique_violation USING CONSTRAINT = 'accounts_username_key',
            MESSAGE = 'the username was given up not long ago';
    END IF;
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO held_names VALUES (lower(OLD.username), OLD.id, now() + interval '90 days')
            ON CONFLICT (username) DO UPDATE SET account_id = excluded.account_id, until = excluded.until;
        DELETE FROM held_names WHERE account_id = NEW.id AND %s;
    END IF;
    RETURN NULL;
END $$
"""
TAKEN_BACK = "username = lower(NEW.username)"
OR_OLDEST = """(username = lower(NEW.username)
            OR username NOT IN (SELECT h.username FROM held_names h WHERE h.account_id = NEW.id
                ORDER BY h.until DESC, h.username LIMIT 3))"""


def upgrade() -> None:
    """Keep all reserved names until they expire, and count changes of name from now on."""
    op.execute(FUNCTION % TAKEN_BACK)
    # The times of the last three changes of name, newest first.
    op.execute("ALTER TABLE accounts ADD COLUMN renamed_at timestamptz[] NOT NULL DEFAULT '{}'")


def downgrade() -> None:
    """Keep only three reserved names per account, as before."""
    op.execute("ALTER TABLE accounts DROP COLUMN renamed_at")
    op.execute(FUNCTION % OR_OLDEST)
