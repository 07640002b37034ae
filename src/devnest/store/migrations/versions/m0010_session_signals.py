"""The last use of a session as a day, and the network that got its newest refresh token."""

from alembic import op

revision = "0010"
down_revision = "0009"
oldest_program = "0008"


def upgrade() -> None:
    """Add the columns. Existing sessions show the day of their last use from tomorrow on."""
    op.execute(
        """
        ALTER TABLE sessions
            ADD COLUMN used_before date, -- the last day of use before the day of `last_used_at`, in UTC
            ADD COLUMN refreshed_from text -- a network
        """
    )


def downgrade() -> None:
    """Drop the columns."""
    op.execute("ALTER TABLE sessions DROP COLUMN used_before, DROP COLUMN refreshed_from")
