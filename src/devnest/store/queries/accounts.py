"""Accounts: the records of people, and the data they sign in with."""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from devnest.store.database import Database
from devnest.store.queries.identifiers import folded

__all__ = [
    "Account",
    "Credentials",
    "Login",
    "Profile",
    "Recipient",
    "find_account",
    "find_confirmed",
    "find_credentials",
    "find_login",
    "find_profile",
    "find_resettable",
    "replace_hash",
]

VERIFY_LIFETIME = timedelta(hours=24)  # of a code that confirms an address

# The most live sessions of one account. One more sign-in ends those that were unused for longest
# (`end_surplus`).
MAX_SESSIONS = 300
MAX_ENDED_PER_SIGN_IN = 100  # every server is notified of each ended session
SURPLUS = (
    "(SELECT count(*) FROM"  # noqa: S608
    " (SELECT FROM sessions WHERE account_id = accounts.id AND ended_at IS NULL"
    f" OFFSET {MAX_SESSIONS - 1} LIMIT {MAX_ENDED_PER_SIGN_IN}) AS beyond)"
)

RECIPIENT = "SELECT id, username, email, email_verified_at IS NOT NULL FROM accounts"

# Somebody who had the old password may have requested a code for another address. Codes for the
# account's own address stay valid.
DROP_TOKENS = (
    "DELETE FROM mailed_tokens t USING accounts a WHERE t.account_id = $1 AND a.id = $1"
    " AND (purpose = 'reset' OR lower(t.email) IS DISTINCT FROM lower(a.email))"
)


class Account(msgspec.Struct, frozen=True):
    """An account as its holder sees it.

    Attributes:
        email: None if the account has no address any more.
    """

    id: UUID
    username: str
    email: str | None
    created_at: datetime


class Profile(msgspec.Struct, frozen=True):
    """An account as everyone sees it."""

    id: UUID
    username: str
    created_at: datetime


class Recipient(msgspec.Struct, frozen=True):
    """The recipient of a mail.

    Attributes:
        confirmed: Whether somebody has proven to read mail at the address.
    """

    account_id: UUID
    username: str
    email: str
    confirmed: bool


class Credentials(msgspec.Struct, frozen=True):
    """What a sign-in is checked against.

    Attributes:
        device_key: The key that signs the account's device tokens.
        surplus: How many live sessions have to end before another may open, at most
            `MAX_ENDED_PER_SIGN_IN`.
    """

    account_id: UUID
    password_hash: str
    disabled: bool
    device_key: UUID
    surplus: int


class Login(msgspec.Struct, frozen=True):
    """The names and the password hash of an account.

    Attributes:
        confirmed: Whether somebody has proven to read mail at `email`.
    """

    username: str
    email: str | None
    password_hash: str
    confirmed: bool

    @property
    def names(self) -> list[str]:
        """The names with which a new password is compared."""
        return [self.username] if self.email is None else [self.username, self.email]


async def find_account(database: Database, account_id: UUID) -> Account | None:
    """Return the account with this id, or None."""
    row = await database.fetch_row(
        "SELECT id, username, email, created_at FROM accounts WHERE id = $1 AND deleted_at IS NULL",
        account_id,
    )
    return None if row is None else Account(*row)


async def find_credentials(
    database: Database, *, email: str | None, username: str | None
) -> Credentials | None:
    """Return the credentials of the account with this address, or else this username, or None."""
    name = "username" if email is None else "email"
    row = await database.fetch_row(
        f"SELECT id, password_hash, disabled_at IS NOT NULL, device_key, {SURPLUS}"  # noqa: S608
        " FROM accounts"
        f" WHERE lower({name}) = $1",
        folded((username or "") if email is None else email),
    )
    return None if row is None else Credentials(*row)


async def find_resettable(database: Database, email: str) -> Recipient | None:
    """Return the account with this e-mail address, or None if it is disabled or missing."""
    row = await database.fetch_row(
        f"{RECIPIENT} WHERE lower(email) = $1 AND disabled_at IS NULL", folded(email)
    )
    return None if row is None else Recipient(*row)


async def find_confirmed(database: Database, account_id: UUID) -> Recipient | None:
    """Return the account with this id, or None if its address is not confirmed."""
    row = await database.fetch_row(
        f"{RECIPIENT} WHERE id = $1 AND email_verified_at IS NOT NULL", account_id
    )
    return None if row is None else Recipient(*row)


async def find_login(database: Database, account_id: UUID) -> Login | None:
    """Return the names and the password hash of the account with this id, or None."""
    row = await database.fetch_row(
        "SELECT username, email, password_hash, email_verified_at IS NOT NULL FROM accounts"
        " WHERE id = $1 AND deleted_at IS NULL",
        account_id,
    )
    return None if row is None else Login(*row)


async def replace_hash(database: Database, account_id: UUID, old_hash: str, new_hash: str) -> bool:
    """Replace a password hash by a better one of the same password.

    Returns:
        False if the stored hash is no longer `old_hash`.
    """
    replaced = await database.fetch_value(
        "UPDATE accounts SET password_hash = $3 WHERE id = $1 AND password_hash = $2"
        " RETURNING true",
        account_id, old_hash, new_hash,
    )  # fmt: skip
    return replaced is not None


async def find_profile(database: Database, username: str) -> Profile | None:
    """Return the account with this username in any case, or None."""
    row = await database.fetch_row(
        "SELECT id, username, created_at FROM accounts WHERE lower(username) = $1", folded(username)
    )
    return None if row is None else Profile(*row)
