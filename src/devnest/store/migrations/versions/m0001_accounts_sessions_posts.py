"""Accounts, sessions with refresh tokens, and posts."""

from alembic import op

revision = "0001"
down_revision = None

SCHEMA = """
CREATE TABLE accounts (
    id uuid PRIMARY KEY,
    username text NOT NULL,
    email text NOT NULL,
    password_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- Both are ASCII (the API sees to it), so lower() means the same under every collation.
CREATE UNIQUE INDEX accounts_username_key ON accounts (lower(username));
CREATE UNIQUE INDEX accounts_email_key ON accounts (lower(email));

CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sessions_account_id_idx ON sessions (account_id);

-- One row for each refresh token ever given in a session; the token itself is never stored.
CREATE TABLE refresh_tokens (
    token_sha256 bytea PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX refresh_tokens_session_id_idx ON refresh_tokens (session_id);

-- Ids are UUIDv7: their order is the order of writing, and a page of posts is a range of them.
CREATE TABLE posts (
    id uuid PRIMARY KEY,
    author_id uuid NOT NULL REFERENCES accounts,
    title text NOT NULL,
    body text NOT NULL,
    tags text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX posts_author_id_idx ON posts (author_id, id);
CREATE INDEX posts_tags_idx ON posts USING gin (tags);
"""


def upgrade() -> None:
    """Create the tables."""
    for statement in SCHEMA.split(";\n"):  # a prepared statement must be a single one
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Drop the tables with their contents."""
    op.execute("DROP TABLE posts, refresh_tokens, sessions, accounts")
