"""Accounts without an address: deleted ones, and those that lost an unconfirmed address.

A registration also locks the name and the address while it checks that they are free.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
# Older programs would keep the sessions of a stranger when an address is first confirmed.
oldest_program = "0011"

# `email_given_at` is when the account got its address, for unconfirmed ones. Existing accounts
# start now.
STATEMENTS = [
    "ALTER TABLE accounts ALTER COLUMN email DROP NOT NULL",
    "ALTER TABLE accounts ADD COLUMN email_given_at timestamptz NOT NULL DEFAULT now()",
    "UPDATE accounts SET email = NULL WHERE deleted_at IS NOT NULL",
    # A function, because each of its statements sees what was committed before that statement
    # began. The second one sees everything that happened while the first one waited for the locks.
    # A single SQL statement would use a snapshot from before the locks.
    """
    CREATE FUNCTION lock_new_account(name text, name_key integer, address_key integer) RETURNS boolean
    LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(1, name_key), pg_advisory_xact_lock(2, address_key);
        RETURN NOT EXISTS (SELECT FROM accounts WHERE lower(username) = name)
            AND NOT EXISTS (SELECT FROM held_names WHERE username = name AND until > now());
    END $$
    """,
]


def upgrade() -> None:
    """Allow accounts without an address."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Store a text that is not an address where there is none."""
    op.execute("DROP FUNCTION lock_new_account(text, integer, integer)")
    op.execute("UPDATE accounts SET email = 'none:' || id WHERE email IS NULL")
    op.execute("ALTER TABLE accounts DROP COLUMN email_given_at")
    op.execute("ALTER TABLE accounts ALTER COLUMN email SET NOT NULL")
