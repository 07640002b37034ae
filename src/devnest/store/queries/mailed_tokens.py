"""Mailed tokens: each proves for a short time that its bearer reads an address. Stored as SHA-256.

A token proves the address only. The caller decides whether the bearer also gets the account: a
session of the account is enough, and so is an address that was confirmed before. Otherwise the
person who created the account, or asked for the address, may be somebody else, and what that person
set up is removed (ADR 0045).

An account may have several valid tokens. Mails can overtake each other, so a user may open an older
one last. When one token is used, all become void. An account that has `MAX_VALID_TOKENS` gets no
further one until one expires: a token that was mailed stays valid for its whole lifetime.
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
    """The purpose of a mailed token."""

    RESET = "reset"
    VERIFY = "verify"


# The account is locked before its tokens, as everywhere.
LOCK = (
    "SELECT FROM accounts"
    " WHERE id = (SELECT account_id FROM mailed_tokens WHERE token_sha256 = $1) FOR UPDATE"
)
ADDRESS = "SELECT email FROM mailed_tokens WHERE token_sha256 = $1"
VALID = """
    token_sha256 = $1 AND purpose = $2 AND t.expires_at > now() AND a.id = t.account_id
        AND a.disabled_at IS NULL
    AND (purpose = 'verify' OR lower(a.email) = lower(t.email))
    AND NOT EXISTS (SELECT FROM accounts other WHERE lower(other.email) = lower(t.email)
        AND other.id <> a.id)"""
PROOF = """
    a.id, a.username, t.email, a.email AS email_before,
    a.email_verified_at IS NOT NULL AND lower(a.email) = lower(t.email) AS confirmed,
    a.email_verified_at IS NOT NULL AS before_confirmed"""
FIND = f"SELECT {PROOF} FROM mailed_tokens t, accounts a WHERE {VALID}"  # noqa: S608
USE = f"DELETE FROM mailed_tokens t USING accounts a WHERE {VALID} RETURNING {PROOF}"  # noqa: S608
FORGET = "DELETE FROM mailed_tokens WHERE account_id = $1"
CONFIRM = "UPDATE accounts SET email = $2, email_verified_at = now()"
LOCK_FOR_ADDRESS = """
SELECT true FROM accounts WHERE id = $1 AND disabled_at IS NULL
    AND (lower(email) = $2 OR password_hash = $3)
FOR NO KEY UPDATE"""
DROP_ELSEWHERE = (
    "DELETE FROM mailed_tokens WHERE account_id = $1 AND purpose = $2 AND lower(email) <> $3"
)
ADD = """
INSERT INTO mailed_tokens (account_id, purpose, token_sha256, email, expires_at)
SELECT $1, $2, $3, $4, now() + $5
WHERE (SELECT count(*) FROM mailed_tokens WHERE account_id = $1 AND purpose = $2
    AND expires_at > now()) < $6
RETURNING true"""

# Of one account and one purpose at a time. `devnest.store.queries.mailboxes` allows one mailbox no
# more mails within their lifetime.
MAX_VALID_TOKENS = 10
RESET_LIFETIME = timedelta(minutes=30)
LIFETIME = {Purpose.RESET: RESET_LIFETIME, Purpose.VERIFY: VERIFY_LIFETIME}


class Proof(msgspec.Struct, frozen=True):
    """What a valid token proves: its bearer reads `email`.

    Attributes:
        email_before: The address of the account before this proof.
        confirmed: Whether `email` was the account's confirmed address before.
        before_confirmed: Whether `email_before` was confirmed.
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
    """Create a token for an account. Tokens of the same purpose for other addresses become void.

    Args:
        database: Where the account is.
        account_id: The account.
        purpose: What the token is for.
        email: The address to which it is mailed.
        password_hash: The hash that was verified when the user asked for another address. It must
            still be the account's, because somebody else may have known the old password.

    Returns:
        The token. None if the account is disabled or missing, or has `MAX_VALID_TOKENS` already.
            Also None if `email` is not the account's address and `password_hash` is not its hash.
    """
    token = new_token()
    async with database.connection() as connection, connection.transaction():
        # A statement of its own takes the lock, so that the next one sees every committed token.
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
    """Return what a token proves, without using it up.

    Returns:
        None if the token is not valid, or another account has the address.
    """
    row = await database.fetch_row(FIND, token_sha256(token), purpose)
    return None if row is None else Proof(*row)


async def confirm_address(database: Database, token: str) -> Proof | None:
    """Use up a token and make its address the confirmed address of the account.

    For a bearer who is signed in to the account. The account's other mailed tokens become void.

    Returns:
        None if the token is not valid.
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
    """Use up a token, set the password, confirm the address and end all sessions.

    For a bearer who is not signed in. The account's device tokens become void. If the address was
    not confirmed before, everything else that opens the account is removed too (`revoke_access`).

    Returns:
        What the token proved and the ids of the ended sessions, or None if it is not valid.
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
    """Lock the address and the account, and delete the token if it is valid."""
    hashed = token_sha256(token)
    address = await connection.fetchval(ADDRESS, hashed)
    if address is None:
        return None
    await lock_address(connection, address)
    await connection.execute(LOCK, hashed)
    row = await connection.fetchrow(USE, hashed, purpose)
    return None if row is None else Proof(*row)
