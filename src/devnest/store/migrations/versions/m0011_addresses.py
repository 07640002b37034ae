"""An account may have no address: a deleted one, or one whose unconfirmed address somebody else registered.

And whoever registers finds out whether a name is free when nobody else can take it or give it up.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
oldest_program = (
    "0011"  # one before would let anybody's session stay when an address is first proven
)

# Since when the account has its address, as long as it is not confirmed. Those that exist begin now.
STATEMENTS = [
    "ALTER TABLE accounts ALTER COLUMN email DROP NOT NULL",
    "ALTER TABLE accounts ADD COLUMN email_given_at timestamptz NOT NULL DEFAULT now()",
    "UPDATE accounts SET email = NULL WHERE deleted_at IS NOT NULL",
    # A function, because each of its statements sees what was committed before it began: the second one all that
    # happened while the first one waited. In one statement of SQL the answer would be older than the locks.
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
    """Let addresses be missing."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Put something that is no address where there is none."""
    op.execute("DROP FUNCTION lock_new_account(text, integer, integer)")
    op.execute("UPDATE accounts SET email = 'none:' || id WHERE email IS NULL")
    op.execute("ALTER TABLE accounts DROP COLUMN email_given_at")
    op.execute("ALTER TABLE accounts ALTER COLUMN email SET NOT NULL")
