"""What holders do to their accounts: another name, another password, or an end.

A deleted account leaves its row, without a name, an address or a password, because conversations hang on it: its
posts and comments stay, by an author called `deleted:…`. Nobody can register such a name or ask for it: a colon is in
none. The row also keeps the ended sessions, from which every server learns that they have ended, even one whose
notification was lost; housekeeping deletes those after two weeks.
"""

import secrets
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from devnest.store.connections import Connection
from devnest.store.database import Database
from devnest.store.errors import AlreadyTaken, RenamedTooOften
from devnest.store.queries.accounts import DROP_TOKENS, Account
from devnest.store.queries.audit import NO_ORIGIN, Event, Origin
from devnest.store.queries.identifiers import folded
from devnest.store.queries.naming import lock_name
from devnest.store.queries.sessions import END_ALL, Opened, Opening, open_session

__all__ = [
    "MAX_RENAMES",
    "RENAME_PERIOD",
    "PasswordChanged",
    "change_password",
    "change_username",
    "delete_account",
    "revoke_access",
]

MAX_RENAMES = 3  # in RENAME_PERIOD: each keeps a name from everybody else for as long
RENAME_PERIOD = timedelta(days=90)

# `renamed_at` has the newest change first. Locked, so that of two changes at once the second counts the first.
FIND_RENAMED = """
SELECT lower(username) <> $2 AS counts, ceil(extract(epoch FROM renamed_at[$5] + $4 - now()))::int AS wait_s
FROM accounts WHERE id = $1 AND password_hash = $3 AND deleted_at IS NULL FOR UPDATE"""
IS_TAKEN = """
SELECT EXISTS (SELECT FROM accounts WHERE lower(username) = $2 AND id <> $1)
    OR EXISTS (SELECT FROM held_names WHERE username = $2 AND until > now() AND account_id <> $1)"""
RENAME = """
UPDATE accounts SET username = $2, renamed_at = CASE WHEN $3 THEN (now() || renamed_at)[:$4] ELSE renamed_at END
WHERE id = $1 RETURNING id, username, email, created_at"""


async def change_username(
    database: Database, account_id: UUID, username: str, password_hash: str
) -> Account | None:
    """Call the account otherwise if this is still its hash; None where it is not, or the account has gone.

    The name before is held for it for 90 days, so it may take that back. Another case of its name is no new name.

    Raises:
        AlreadyTaken: Another account has the name, or gave it up not long ago.
        RenamedTooOften: The account has had three new names within 90 days.
    """
    async with database.connection() as connection, connection.transaction():
        await lock_name(connection, username)
        found = await connection.fetchrow(
            FIND_RENAMED, account_id, folded(username), password_hash, RENAME_PERIOD, MAX_RENAMES
        )
        if found is None:
            return None
        if found["counts"]:
            if (found["wait_s"] or 0) > 0:
                raise RenamedTooOften(found["wait_s"])
            if await connection.fetchval(IS_TAKEN, account_id, folded(username)):
                raise AlreadyTaken("username")
        row = await connection.fetchrow(RENAME, account_id, username, found["counts"], MAX_RENAMES)
    assert row is not None
    return Account(*row)


class PasswordChanged(NamedTuple):
    """A password was changed: the session that goes on instead of the one that did it, and those that ended."""

    session: Opened
    ended: list[UUID]


async def change_password(
    database: Database, account_id: UUID, old_hash: str, new_hash: str, origin: Origin = NO_ORIGIN
) -> PasswordChanged | None:
    """Replace the hash if it is still the old one, end all sessions, and open one for whoever did it.

    A copy of the session that did it, refresh tokens and access tokens, ends like the others. The new session has its
    line in the audit log, the change's. Mailed tokens for a reset or for another address are of no more use. None where
    the hash is another by now, or the account is disabled.
    """
    async with database.connection() as connection, connection.transaction():
        changed = await connection.fetchval(
            "UPDATE accounts SET password_hash = $3 WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL"
            " RETURNING true",
            account_id, old_hash, new_hash,
        )  # fmt: skip
        if not changed:
            return None
        await connection.execute(DROP_TOKENS, account_id)
        ended = await connection.fetch(END_ALL, account_id)
        session = await open_session(
            connection, Opening(account_id, new_hash, origin), Event.PASSWORD_CHANGE
        )
    assert session is not None, "the account is locked"
    return PasswordChanged(session, [row["id"] for row in ended])


async def delete_account(
    database: Database, account_id: UUID, password_hash: str
) -> list[UUID] | None:
    """End an account if this is still its hash; the ids of the sessions that ended with it, None where it is not.

    The name is kept from others for 90 days, by the same trigger as at a change. The address is free at once: a mail
    proves whose it is.
    """
    gone = f"deleted:{secrets.token_hex(8)}"
    async with database.connection() as connection, connection.transaction():
        deleted = await connection.fetchval(
            "UPDATE accounts SET username = $3, email = NULL, password_hash = '', email_verified_at = NULL,"
            " deleted_at = now(), disabled_at = coalesce(disabled_at, now())"
            " WHERE id = $1 AND password_hash = $2 AND deleted_at IS NULL RETURNING true",
            account_id, password_hash, gone,
        )  # fmt: skip
        if not deleted:
            return None
        ended = await revoke_access(connection, account_id)
        await connection.execute(
            "UPDATE sessions SET address = NULL, user_agent = NULL, refreshed_from = NULL WHERE account_id = $1",
            account_id,
        )
    return ended


async def revoke_access(connection: Connection, account_id: UUID) -> list[UUID]:
    """Remove all that opens the account or waits to change it, the password aside; the sessions that ended.

    For an account that is locked and about to be another person's, or nobody's. Whatever else will open an account one
    day (a second factor, a passkey) is to be removed here.
    """
    await connection.execute("DELETE FROM mailed_tokens WHERE account_id = $1", account_id)
    await connection.execute("DELETE FROM idempotency_keys WHERE account_id = $1", account_id)
    return [row["id"] for row in await connection.fetch(END_ALL, account_id)]
