"""Compare identifiers by their bytes, whatever the database's collation.

In Turkish, `iris` and `IRIS` are different words.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
oldest_program = "0008"

# PostgreSQL does not change the type of a column that a trigger names.
DROP_TRIGGER = "DROP TRIGGER accounts_renamed ON accounts"
TRIGGER = """
CREATE TRIGGER accounts_renamed AFTER UPDATE OF username ON accounts FOR EACH ROW
WHEN (lower(OLD.username) <> lower(NEW.username)) EXECUTE FUNCTION keep_to_held_names()
"""
COLUMNS = [
    ("accounts", "username"),
    ("accounts", "email"),
    ("held_names", "username"),
    ("mailed_tokens", "email"),
]


def upgrade() -> None:
    """Change the collation of the columns. Their indexes are rebuilt."""
    _collate("C")


def downgrade() -> None:
    """Restore the database's collation."""
    _collate("default")


def _collate(collation: str) -> None:
    op.execute(DROP_TRIGGER)
    for table, column in COLUMNS:
        op.execute(f'ALTER TABLE {table} ALTER COLUMN {column} TYPE text COLLATE "{collation}"')
    op.execute(TRIGGER)
