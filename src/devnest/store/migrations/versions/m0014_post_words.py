"""The words of a post stored beside it, so that a search parses no post anew."""

from alembic import op

revision = "0014"
down_revision = "0013"
oldest_program = "0013"  # it goes on, with searches as slow as they were

# Of texts of 60,000 characters, where a post has 50,200 at most, the vector has less than half the 1 MiB that
# PostgreSQL allows one: no post, whoever wrote it, is refused for its words.
WORDS = """
ALTER TABLE posts ADD COLUMN words tsvector NOT NULL
GENERATED ALWAYS AS (to_tsvector('simple', left(title || ' ' || body, 60000))) STORED
"""


def upgrade() -> None:
    """Write the table of posts anew, while nobody reads or writes it, and index the words."""
    op.execute("DROP INDEX posts_words_idx")
    op.execute(WORDS)
    op.execute("CREATE INDEX posts_words_idx ON posts USING gin (words)")


def downgrade() -> None:
    """Index the words without a column of their own."""
    op.execute("ALTER TABLE posts DROP COLUMN words")
    op.execute(
        "CREATE INDEX posts_words_idx ON posts USING gin (to_tsvector('simple', title || ' ' || body))"
    )
