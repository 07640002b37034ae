"""Making accounts."""

import asyncpg
from uuid_utils.compat import uuid7

from devnest.store.accounts import VERIFY_LIFETIME, Account
from devnest.store.audit import NO_ORIGIN, Event, Origin
from devnest.store.connections import Connection
from devnest.store.database import Database
from devnest.store.errors import AlreadyTaken, KeyTaken
from devnest.store.idempotency import Claim, keep_answer
from devnest.store.identifiers import folded
from devnest.store.naming import lock_key
from devnest.store.tokens import token_sha256

__all__ = ["create_account", "taken_field"]

# One snapshot sees a name in use, or held, or free: giving one up is one transaction. It may be older than the locks,
# so that a name or an address can have been taken since; then the index has it, and nothing is inserted.
INSERT = """
WITH locked AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(1, $13), pg_advisory_xact_lock(2, $14)
), created AS (
    INSERT INTO accounts (id, username, email, password_hash) SELECT $1, $2, $3, $4 FROM locked
    WHERE NOT EXISTS (SELECT FROM accounts WHERE lower(username) = $12)
        AND NOT EXISTS (SELECT FROM held_names WHERE username = $12 AND until > now())
    ON CONFLICT DO NOTHING RETURNING id, created_at
), mailed AS (
    INSERT INTO mailed_tokens (account_id, purpose, token_sha256, email, expires_at)
    SELECT id, 'verify', $10, $3, now() + $11 FROM created WHERE $10::bytea IS NOT NULL
)
INSERT INTO audit_log (id, event, succeeded, account_id, address, user_agent, request_id)
SELECT $5, $6, true, id, $7, $8, $9 FROM created RETURNING (SELECT created_at FROM created)"""
TAKEN = """
SELECT EXISTS (SELECT FROM accounts WHERE lower(username) = $1)
        OR EXISTS (SELECT FROM held_names WHERE username = $1 AND until > now()),
    EXISTS (SELECT FROM accounts WHERE lower(email) = $2)"""


async def create_account(
    database: Database,
    username: str,
    email: str,
    password_hash: str,
    claim: Claim | None = None,
    origin: Origin = NO_ORIGIN,
    verification: str | None = None,
) -> Account:
    """Store a new account, and with it its line in the audit log and the answer under its claim.

    `verification`: a token that is to be mailed to the address, and will confirm it.

    Raises `AlreadyTaken` where the username or the e-mail address exists in any case, or another gave the username up
    not long ago. Where the claim is taken, so is the username: by the same request, or the claim's own check tells.
    """
    try:
        async with database.connection() as connection:
            if claim is None:
                account = await _insert(connection, username, email, password_hash, origin, verification)
            else:
                async with connection.transaction():
                    account = await _insert(connection, username, email, password_hash, origin, verification)
                    if account is not None:
                        await keep_answer(connection, claim, account.id, account)
    except KeyTaken as error:
        raise AlreadyTaken("username") from error
    except asyncpg.UniqueViolationError as error:
        # From the trigger alone, the last resort: the name was taken and given up between the snapshot and the locks.
        raise AlreadyTaken("username") from error
    if account is None:
        raise AlreadyTaken(await taken_field(database, username, email) or "username")
    return account


async def _insert(
    connection: Connection, username: str, email: str, password_hash: str, origin: Origin, verification: str | None
) -> Account | None:
    """None where the name or the address is taken."""
    created_at = await connection.fetchval(
        INSERT, account_id := uuid7(), username, email, password_hash, uuid7(), Event.REGISTER, *origin,
        token_sha256(verification) if verification else None, VERIFY_LIFETIME,
        folded(username), lock_key(username), lock_key(email),
    )  # fmt: skip
    return None if created_at is None else Account(account_id, username, email, created_at)


async def taken_field(database: Database, username: str, email: str) -> str | None:
    """Which of the two cannot be had; asked before the costly hash, and again by the insert afterwards."""
    row = await database.fetch_row(TAKEN, folded(username), folded(email))
    assert row is not None
    return "username" if row[0] else "email" if row[1] else None
