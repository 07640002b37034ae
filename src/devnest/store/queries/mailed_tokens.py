"""Tokens sent by mail: each proves, not for long, that its bearer reads an address. Stored as SHA-256.

A token proves the address and nothing else. Whether the bearer may have the account too is for who asks to decide: a
session of the account says so, and so does an address that was confirmed before. Where neither does, whoever made the
account or asked for the address may be another person than the bearer, and what he has is removed (ADR 0045).

An account may have several that are good: mails overtake each other, on their way and in two servers that answer at
once, so one that made the others void could be in any of them. When one is used, all are void. Where an account has as
many as it may have, there is none more until one is too old: a code that was mailed is good until its time is over.
"""

from datetime import timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from devnest.store.connections import Connection
from devnest.store.database import Database
from devnest.store.queries.account_changes import revoke_access
from devnest.store.queries.accounts import VERIFY_LIFETIME
from devnest.store.queries.identifiers import folded
from devnest.store.queries.naming import lock_address
from devnest.store.queries.sessions import END_ALL
from devnest.store.queries.tokens import new_token, token_sha256

__all__ = [
    "RESET_LIFETIME",
    "Proof",
    "Purpose",
    "confirm_address",
    "create_mailed_token",
    "find_proof",
    "set_password",
]


class Purpose(StrEnum):
    """What a mailed token is good for."""

    RESET = "reset"
    VERIFY = "verify"


# The account before its tokens, as everybody else locks them.
LOCK = "SELECT FROM accounts WHERE id = (SELECT account_id FROM mailed_tokens WHERE token_sha256 = $1) FOR UPDATE"
ADDRESS = "SELECT email FROM mailed_tokens WHERE token_sha256 = $1"
VALID = """
    token_sha256 = $1 AND purpose = $2 AND t.expires_at > now() AND a.id = t.account_id AND a.disabled_at IS NULL
    AND (purpose = 'verify' OR lower(a.email) = lower(t.email))
    AND NOT EXISTS (SELECT FROM accounts other WHERE lower(other.email) = lower(t.email) AND other.id <> a.id)"""
PROOF = """
    a.id, a.username, t.email, a.email AS email_before,
    a.email_verified_at IS NOT NULL AND lower(a.email) = lower(t.email) AS confirmed,
    a.email_verified_at IS NOT NULL AS before_confirmed"""
FIND = f"SELECT {PROOF} FROM mailed_tokens t, accounts a WHERE {VALID}"  # noqa: S608 (constants only)
USE = f"DELETE FROM mailed_tokens t USING accounts a WHERE {VALID} RETURNING {PROOF}"  # noqa: S608
FORGET = "DELETE FROM mailed_tokens WHERE account_id = $1"
CONFIRM = "UPDATE accounts SET email = $2, email_verified_at = now()"
LOCK_FOR_ADDRESS = """
SELECT true FROM accounts WHERE id = $1 AND disabled_at IS NULL AND (lower(email) = $2 OR password_hash = $3)
FOR NO KEY UPDATE"""
DROP_ELSEWHERE = (
    "DELETE FROM mailed_tokens WHERE account_id = $1 AND purpose = $2 AND lower(email) <> $3"
)
ADD = """
INSERT INTO mailed_tokens (account_id, purpose, token_sha256, email, expires_at)
SELECT $1, $2, $3, $4, now() + $5
WHERE (SELECT count(*) FROM mailed_tokens WHERE account_id = $1 AND purpose = $2 AND expires_at > now()) < $6
RETURNING true"""

# Of one account and one purpose at a time. `devnest.store.queries.mailboxes` allows one mailbox
# no more mails within their lifetime.
MAX_VALID_TOKENS = 10
RESET_LIFETIME = timedelta(minutes=30)
LIFETIME = {Purpose.RESET: RESET_LIFETIME, Purpose.VERIFY: VERIFY_LIFETIME}


class Proof(msgspec.Struct, frozen=True):
    """What a good token proves: that its bearer reads `email`, for an account that has `email_before`.

    `confirmed`: the account had that address, and it was confirmed, before this proof. `before_confirmed`: whichever
    address it had was confirmed.
    """

    account_id: UUID
    username: str
    email: str
    email_before: str | None
    confirmed: bool
    before_confirmed: bool


async def create_mailed_token(
    database: Database,
    account_id: UUID,
    purpose: Purpose,
    email: str,
    password_hash: str | None = None,
) -> str | None:
    """A new token for an account, beside those that are good for the same address; those for another one are void.

    None where the account is disabled or has gone, or has `MAX_VALID_TOKENS` already.
    None too where `email` is another address
    than its own, unless `password_hash` is still its hash: who asked for another address had the password then, and may
    not have it now.
    """
    token = new_token()
    async with database.connection() as connection, connection.transaction():
        # The lock first, by itself: the next statement sees what was made meanwhile.
        if not await connection.fetchval(
            LOCK_FOR_ADDRESS, account_id, folded(email), password_hash
        ):
            return None
        await connection.execute(DROP_ELSEWHERE, account_id, purpose, folded(email))
        made = await connection.fetchval(
            ADD,
            account_id,
            purpose,
            token_sha256(token),
            email,
            LIFETIME[purpose],
            MAX_VALID_TOKENS,
        )
    return token if made else None


async def find_proof(database: Database, purpose: Purpose, token: str) -> Proof | None:
    """What the token proves, without using it up; None where it is not good, or another account has the address."""
    row = await database.fetch_row(FIND, token_sha256(token), purpose)
    return None if row is None else Proof(*row)


async def confirm_address(database: Database, token: str) -> Proof | None:
    """Use the token up: the address it was sent to is the account's, and confirmed. None where it is not good.

    For a bearer who is in a session of the account. Its other mailed tokens are of no more use.
    """
    async with database.connection() as connection, connection.transaction():
        proof = await _use(connection, Purpose.VERIFY, token)
        if proof is not None:
            await connection.execute(f"{CONFIRM} WHERE id = $1", proof.account_id, proof.email)
            await connection.execute(FORGET, proof.account_id)
    return proof


async def set_password(
    database: Database, purpose: Purpose, token: str, password_hash: str
) -> tuple[Proof, list[UUID]] | None:
    """Use the token up: the account has this password, the address is its own and confirmed, and all sessions end.

    For a bearer of whom nothing else is known; the account's device tokens are of no more use. If it is the first proof
    of this address, all that opened the account or was to change it is removed too. None where the token is not good
    now; else the ids of the ended sessions.
    """
    async with database.connection() as connection, connection.transaction():
        proof = await _use(connection, purpose, token)
        if proof is None:
            return None
        await connection.execute(
            f"{CONFIRM}, password_hash = $3, device_key = gen_random_uuid() WHERE id = $1",
            proof.account_id, proof.email, password_hash,
        )  # fmt: skip
        if not proof.confirmed:
            return proof, await revoke_access(connection, proof.account_id)
        await connection.execute(FORGET, proof.account_id)
        ended = await connection.fetch(END_ALL, proof.account_id)
    return proof, [row["id"] for row in ended]


async def _use(connection: Connection, purpose: Purpose, token: str) -> Proof | None:
    """Delete the token if it is good, with the address and the account locked until the end of the transaction."""
    hashed = token_sha256(token)
    address = await connection.fetchval(ADDRESS, hashed)
    if address is None:
        return None
    await lock_address(connection, address)
    await connection.execute(LOCK, hashed)
    row = await connection.fetchrow(USE, hashed, purpose)
    return None if row is None else Proof(*row)
