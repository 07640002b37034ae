"""Tokens sent by mail: each proves once, and not for long, that its bearer reads an address. Stored as SHA-256."""

from datetime import timedelta
from enum import StrEnum
from uuid import UUID

import asyncpg
import msgspec

from devnest.store.accounts import DROP_TOKENS, VERIFY_LIFETIME
from devnest.store.database import Database
from devnest.store.errors import AlreadyTaken
from devnest.store.identifiers import folded
from devnest.store.sessions import END_ALL
from devnest.store.tokens import new_token, token_sha256

__all__ = [
    "RESET_LIFETIME",
    "Purpose",
    "ResetTarget",
    "Verified",
    "create_mailed_token",
    "find_reset_target",
    "reset_password",
    "verify_email",
]


class Purpose(StrEnum):
    """What a mailed token is good for."""

    RESET = "reset"
    VERIFY = "verify"


# The account before its tokens, as everybody else locks them.
LOCK = "SELECT FROM accounts WHERE id = (SELECT account_id FROM mailed_tokens WHERE token_sha256 = $1) FOR UPDATE"
RESET_LIFETIME = timedelta(minutes=30)
LIFETIME = {Purpose.RESET: RESET_LIFETIME, Purpose.VERIFY: VERIFY_LIFETIME}


class ResetTarget(msgspec.Struct, frozen=True):
    """Whose password a reset token sets."""

    account_id: UUID
    username: str
    email: str


class Verified(msgspec.Struct, frozen=True):
    """Whose address was confirmed, which it is, and which it was before."""

    account_id: UUID
    email: str
    email_before: str


async def create_mailed_token(
    database: Database, account_id: UUID, purpose: Purpose, email: str, password_hash: str | None = None
) -> str | None:
    """A new token in place of the account's last one for that purpose.

    None where the account is disabled or has gone, and where `email` is another address than its own, unless
    `password_hash` is still its hash: who asked for another address had the password then, and may not have it now.
    """
    token = new_token()
    made = await database.fetch_value(
        "INSERT INTO mailed_tokens (account_id, purpose, token_sha256, email, expires_at)"
        " SELECT id, $2, $3, $4, now() + $5 FROM accounts WHERE id = $1 AND disabled_at IS NULL"
        " AND (lower(email) = $7 OR password_hash = $6) FOR SHARE"
        " ON CONFLICT (account_id, purpose) DO UPDATE"
        " SET token_sha256 = excluded.token_sha256, email = excluded.email, expires_at = excluded.expires_at"
        " RETURNING true",
        account_id, purpose, token_sha256(token), email, LIFETIME[purpose], password_hash,
        folded(email),
    )  # fmt: skip
    return token if made else None


async def find_reset_target(database: Database, token: str) -> ResetTarget | None:
    """Whose token it is, without using it up."""
    row = await database.fetch_row(
        "SELECT a.id, a.username, a.email FROM mailed_tokens t JOIN accounts a ON a.id = t.account_id"
        " WHERE token_sha256 = $1 AND purpose = 'reset' AND expires_at > now() AND disabled_at IS NULL",
        token_sha256(token),
    )
    return None if row is None else ResetTarget(*row)


async def reset_password(database: Database, token: str, password_hash: str) -> list[UUID] | None:
    """Use the token up, set the password and end all sessions; their ids, or None where the token is not good now.

    Who reads the mail at an address has verified it.
    """
    async with database.connection() as connection, connection.transaction():
        await connection.execute(LOCK, token_sha256(token))
        account_id = await connection.fetchval(
            "WITH used AS (DELETE FROM mailed_tokens"
            " WHERE token_sha256 = $1 AND purpose = 'reset' AND expires_at > now() RETURNING account_id, email)"
            " UPDATE accounts SET password_hash = $2, email_verified_at ="
            " CASE WHEN lower(accounts.email) = lower(used.email) THEN coalesce(email_verified_at, now())"
            " ELSE email_verified_at END FROM used WHERE id = account_id AND disabled_at IS NULL RETURNING id",
            token_sha256(token), password_hash,
        )  # fmt: skip
        if account_id is None:
            return None
        await connection.execute(DROP_TOKENS, account_id)
        ended = await connection.fetch(END_ALL, account_id)
    return [row["id"] for row in ended]


async def verify_email(database: Database, token: str) -> Verified | None:
    """Use the token up: the address it was sent to is the account's, and verified. None where it is not good.

    A reset token that was mailed to another address is of no more use. Raises `AlreadyTaken` where another account
    has the address by now.
    """
    try:
        async with database.connection() as connection, connection.transaction():
            await connection.execute(LOCK, token_sha256(token))
            row = await connection.fetchrow(
                "WITH used AS (DELETE FROM mailed_tokens"
                " WHERE token_sha256 = $1 AND purpose = 'verify' AND expires_at > now() RETURNING account_id, email),"
                " before AS (SELECT a.id, a.email FROM accounts a JOIN used ON a.id = account_id"
                " WHERE deleted_at IS NULL FOR UPDATE OF a)"
                " UPDATE accounts SET email = used.email, email_verified_at = now() FROM used, before"
                " WHERE accounts.id = before.id RETURNING accounts.id, accounts.email, before.email",
                token_sha256(token),
            )
            if row is None:
                return None
            verified = Verified(*row)
            await connection.execute(DROP_TOKENS, verified.account_id)
    except asyncpg.UniqueViolationError as error:
        raise AlreadyTaken("email") from error
    return verified
