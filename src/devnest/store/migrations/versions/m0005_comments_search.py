"""Comments, and a search index of the words in posts."""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = [
    """
    CREATE TABLE comments (
        id uuid PRIMARY KEY,
        post_id uuid NOT NULL REFERENCES posts ON DELETE CASCADE,
        author_id uuid NOT NULL REFERENCES accounts,
        body text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX comments_post_id_idx ON comments (post_id, id)",
    "CREATE INDEX comments_author_id_idx ON comments (author_id)",
    # The `simple` configuration keeps words of every language unchanged. It is an index on an
    # expression, so no additional column is read with each post.
    "CREATE INDEX posts_words_idx ON posts USING gin (to_tsvector('simple', title || ' ' || body))",
]


def upgrade() -> None:
    """Create both. The words of existing posts are indexed now."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop both, with all comments."""
    op.execute("DROP INDEX posts_words_idx")
    op.execute("DROP TABLE comments")
