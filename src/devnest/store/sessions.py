"""Sessions: one for each sign-in, with its refresh tokens, which are stored as their SHA-256 only."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from devnest.store.database import Database

__all__ = ["create_session"]

REFRESH_TOKEN_BYTES = 32
REFRESH_TOKEN_LIFETIME = timedelta(days=30)


async def create_session(database: Database, account_id: UUID) -> tuple[UUID, str] | None:
    """Open a session; its id and its first refresh token, or None where the account has gone meanwhile."""
    session_id, token = uuid7(), secrets.token_urlsafe(REFRESH_TOKEN_BYTES)
    # A random token of 256 bits needs no salt and no slow hash: it cannot be guessed.
    opened = await database.fetch_value(
        "WITH opened AS (INSERT INTO sessions (id, account_id) SELECT $1, id FROM accounts WHERE id = $2 RETURNING id)"
        " INSERT INTO refresh_tokens (token_sha256, session_id, expires_at)"
        " SELECT $3, id, $4 FROM opened RETURNING true",
        session_id, account_id, hashlib.sha256(token.encode()).digest(), datetime.now(UTC) + REFRESH_TOKEN_LIFETIME,
    )  # fmt: skip
    return (session_id, token) if opened else None
