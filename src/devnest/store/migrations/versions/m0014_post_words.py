"""The words of each post in a column, so that searches do not parse posts."""

from alembic import op

revision = "0014"
down_revision = "0013"
oldest_program = "0013"  # an older program keeps working, with slower searches

# PostgreSQL limits a vector to 1 MiB. Texts of 60,000 characters need less than half of it, and a
# post has 50,200 characters at most, so no post is refused for its words.
WORDS = """
ALTER TABLE posts ADD COLUMN words tsvector NOT NULL
GENERATED ALWAYS AS (to_tsvector('simple', left(title || ' ' || body, 60000))) STORED
"""


def upgrade() -> None:
    """Rewrite the table of posts, which is locked meanwhile, and index the words."""
    op.execute("DROP INDEX posts_words_idx")
    op.execute(WORDS)
    op.execute("CREATE INDEX posts_words_idx ON posts USING gin (words)")


def downgrade() -> None:
    """Index the words without a column for them."""
    op.execute("ALTER TABLE posts DROP COLUMN words")
    op.execute(
        "CREATE INDEX posts_words_idx ON posts USING gin (to_tsvector('simple', title || ' ' || body))"
    )
