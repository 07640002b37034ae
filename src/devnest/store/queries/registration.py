"""Registration, and what happens to an unconfirmed address that somebody else registers.

An account can be used before its address is confirmed, so anyone can register the address of
another person. That person has two ways to get it:

- A mailed code takes the account over (`devnest.store.queries.mailed_tokens`).
- After `UNCONFIRMED_LIFETIME` the person can register the address. The earlier account then loses
  the address and keeps everything else.

No other operation takes an address from an account.
"""

from datetime import timedelta
from typing import NamedTuple

from uuid_utils.compat import uuid7

from devnest.store.connections import Connection
from devnest.store.database import Database
from devnest.store.errors import AlreadyTaken, KeyTaken
from devnest.store.queries.accounts import VERIFY_LIFETIME, Account
from devnest.store.queries.audit import NO_ORIGIN, Event, Origin
from devnest.store.queries.idempotency import Claim, keep_answer
from devnest.store.queries.identifiers import folded
from devnest.store.queries.naming import lock_key
from devnest.store.queries.tokens import token_sha256

__all__ = ["create_account", "is_address_taken", "taken_field"]

# How long an unconfirmed address is reserved for its account. By then, a holder whose mail was lost
# has asked for another one.
UNCONFIRMED_LIFETIME = timedelta(days=7)
# `lock_new_account` returns whether the name is free, and keeps it so. The index decides about the
# address.
INSERT = """
WITH created AS (
    INSERT INTO accounts (id, username, email, password_hash) SELECT $1, $2, $3, $4
    WHERE lock_new_account($12, $13, $14) ON CONFLICT DO NOTHING RETURNING id, created_at
), mailed AS (
    INSERT INTO mailed_tokens (account_id, purpose, token_sha256, email, expires_at)
    SELECT id, 'verify', $10, $3, now() + $11 FROM created WHERE $10::bytea IS NOT NULL
)
INSERT INTO audit_log (id, event, succeeded, account_id, address, user_agent, request_id)
SELECT $5, $6, true, id, $7, $8, $9 FROM created RETURNING (SELECT created_at FROM created)"""
RELEASABLE = (
    "(email_verified_at IS NULL"
    f" AND email_given_at < now() - interval '{UNCONFIRMED_LIFETIME.days} days')"
)
TAKEN = f"""
SELECT EXISTS (SELECT FROM accounts WHERE lower(username) = $1)
        OR EXISTS (SELECT FROM held_names WHERE username = $1 AND until > now()) AS username,
    EXISTS (SELECT FROM accounts WHERE lower(email) = $2
        AND NOT {RELEASABLE}) AS email"""  # noqa: S608
IS_ADDRESS_TAKEN = "SELECT EXISTS (SELECT FROM accounts WHERE lower(email) = $1)"
# The account's mailed tokens were meant for whoever reads that address, so they are deleted.
RELEASE = f"""
WITH released AS (
    UPDATE accounts SET email = NULL WHERE lower(email) = $1 AND {RELEASABLE} RETURNING id
), dropped AS (
    DELETE FROM mailed_tokens t USING released r WHERE t.account_id = r.id AND lower(t.email) = $1
)
INSERT INTO audit_log (id, event, succeeded, account_id, address, user_agent, request_id)
SELECT $2, $3, true, id, $4, $5, $6 FROM released RETURNING true"""  # noqa: S608


class NewAccount(NamedTuple):
    """An account that is to be stored."""

    username: str
    email: str
    password_hash: str
    origin: Origin
    verification: str | None


async def create_account(
    database: Database,
    username: str,
    email: str,
    password_hash: str,
    claim: Claim | None = None,
    origin: Origin = NO_ORIGIN,
    verification: str | None = None,
) -> Account:
    """Store a new account, its line in the audit log, and the answer under its claim.

    Args:
        database: Where the account is stored.
        username: Its name.
        email: Its address.
        password_hash: The hash of its password.
        claim: The idempotency key of the request, or None.
        origin: Where the request came from, for the audit log.
        verification: A token that is mailed to the address and will confirm it.

    Raises:
        AlreadyTaken: The username or the address exists in any case, or another account gave up the
            username not long ago. The claim being used already counts as a taken username: the same
            request has created the account, or checking the claim reports the difference.
    """
    new = NewAccount(username, email, password_hash, origin, verification)
    try:
        async with database.connection() as connection:
            if claim is None and (account := await _insert(connection, new)):
                return account
            async with connection.transaction():
                account = await _insert(connection, new) or await _insert_released(connection, new)
                if account is None:
                    raise AlreadyTaken(
                        await _taken_field(connection, username, email) or "username"
                    )
                if claim is not None:
                    await keep_answer(connection, claim, account.id, account)
            return account
    except KeyTaken as error:
        raise AlreadyTaken("username") from error


async def _insert(connection: Connection, new: NewAccount) -> Account | None:
    """Return the new account, or None if the name or the address is taken."""
    created_at = await connection.fetchval(
        INSERT, account_id := uuid7(), new.username, new.email, new.password_hash, uuid7(),
        Event.REGISTER, *new.origin, token_sha256(new.verification) if new.verification else None,
        VERIFY_LIFETIME,
        folded(new.username), lock_key(new.username), lock_key(new.email),
    )  # fmt: skip
    return None if created_at is None else Account(account_id, new.username, new.email, created_at)


async def _insert_released(connection: Connection, new: NewAccount) -> Account | None:
    """Take the address from an unconfirmed account if possible, and insert.

    If it is not possible the result is None and the caller undoes everything. The earlier insert
    has locked the name and the address for this transaction.
    """
    released = await connection.fetchval(
        RELEASE, folded(new.email), uuid7(), Event.EMAIL_RELEASE, *new.origin
    )
    return await _insert(connection, new) if released else None


async def taken_field(database: Database, username: str, email: str) -> str | None:
    """Return which field cannot be registered: `username`, `email` or None.

    It is called before the password is hashed, which is costly. The insert checks again.
    """
    async with database.connection() as connection:
        return await _taken_field(connection, username, email)


async def _taken_field(connection: Connection, username: str, email: str) -> str | None:
    row = await connection.fetchrow(TAKEN, folded(username), folded(email))
    assert row is not None
    return "username" if row["username"] else "email" if row["email"] else None


async def is_address_taken(database: Database, email: str) -> bool:
    """Return whether any account has the address, even unconfirmed.

    Only a registration can take an address from an unconfirmed account.
    """
    return bool(await database.fetch_value(IS_ADDRESS_TAKEN, folded(email)))
