"""Changes that holders make to their accounts: another name, another password, deletion.

A deleted account keeps its row, without name, address and password, because its posts and comments
stay. Their author is shown as `deleted:…`. No account can have such a name, because names contain
no colon. The row also keeps the ended sessions, from which every server learns that they have ended
even if a notification was lost. Housekeeping deletes these sessions after two weeks.
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

MAX_RENAMES = 3  # within `RENAME_PERIOD`: each reserves the old name for as long
RENAME_PERIOD = timedelta(days=90)

# `renamed_at` begins with the newest change. The row is locked, so that of two concurrent changes
# the second counts the first.
FIND_RENAMED = """
SELECT lower(username) <> $2 AS counts,
    ceil(extract(epoch FROM renamed_at[$5] + $4 - now()))::int AS wait_s
FROM accounts WHERE id = $1 AND password_hash = $3 AND deleted_at IS NULL FOR UPDATE"""
IS_TAKEN = """
SELECT EXISTS (SELECT FROM accounts WHERE lower(username) = $2 AND id <> $1)
    OR EXISTS (SELECT FROM held_names WHERE username = $2 AND until > now() AND account_id <> $1)"""
RENAME = """
UPDATE accounts SET username = $2, renamed_at = CASE WHEN $3 THEN (now() || renamed_at)[:$4]
    ELSE renamed_at END
WHERE id = $1 RETURNING id, username, email, created_at"""


async def change_username(
    database: Database, account_id: UUID, username: str, password_hash: str
) -> Account | None:
    """Rename an account.

    The old name is reserved for the account for 90 days, so it can be taken back. A change of upper
    and lower case only is not counted.

    Args:
        database: Where the account is.
        account_id: The account.
        username: The new name.
        password_hash: The hash that was verified; it must still be the account's.

    Returns:
        None if the hash has changed or the account no longer exists.

    Raises:
        AlreadyTaken: Another account has the name, or gave it up not long ago.
        RenamedTooOften: The account has had `MAX_RENAMES` new names within 90 days.
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
    """The result of a password change.

    Attributes:
        session: The new session of the client that changed the password.
        ended: The ids of all earlier sessions.
    """

    session: Opened
    ended: list[UUID]


async def change_password(
    database: Database, account_id: UUID, old_hash: str, new_hash: str, origin: Origin = NO_ORIGIN
) -> PasswordChanged | None:
    """Change a password, end all sessions, and open a new one for the client that did it.

    The client's own session ends too, so copies of its tokens become useless. The audit log has one
    line for the change, which names the new session. Mailed codes that reset the password or
    confirm another address become void.

    Args:
        database: Where the account is.
        account_id: The account.
        old_hash: The hash that was verified; it must still be the account's.
        new_hash: The hash of the new password.
        origin: Where the request came from, for the audit log.

    Returns:
        None if the hash has changed or the account is disabled.
    """
    async with database.connection() as connection, connection.transaction():
        changed = await connection.fetchval(
            "UPDATE accounts SET password_hash = $3"
            " WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL RETURNING true",
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
    """Delete an account.

    A trigger reserves the name for 90 days, as after a change of name. The address is free
    immediately, because a mail proves whose it is.

    Args:
        database: Where the account is.
        account_id: The account.
        password_hash: The hash that was verified; it must still be the account's.

    Returns:
        The ids of the sessions that ended, or None if the hash has changed.
    """
    gone = f"deleted:{secrets.token_hex(8)}"
    async with database.connection() as connection, connection.transaction():
        deleted = await connection.fetchval(
            "UPDATE accounts SET username = $3, email = NULL, password_hash = '',"
            " email_verified_at = NULL, deleted_at = now(),"
            " disabled_at = coalesce(disabled_at, now())"
            " WHERE id = $1 AND password_hash = $2 AND deleted_at IS NULL RETURNING true",
            account_id, password_hash, gone,
        )  # fmt: skip
        if not deleted:
            return None
        ended = await revoke_access(connection, account_id)
        await connection.execute(
            "UPDATE sessions SET address = NULL, user_agent = NULL, refreshed_from = NULL"
            " WHERE account_id = $1",
            account_id,
        )
    return ended


async def revoke_access(connection: Connection, account_id: UUID) -> list[UUID]:
    """Remove everything that opens the account or is waiting to change it, except the password.

    It is used when the account is about to belong to another person or to nobody. The caller has
    locked the account. Future ways to sign in, such as passkeys, have to be removed here too.

    Returns:
        The ids of the sessions that ended.
    """
    await connection.execute("DELETE FROM mailed_tokens WHERE account_id = $1", account_id)
    await connection.execute("DELETE FROM idempotency_keys WHERE account_id = $1", account_id)
    return [row["id"] for row in await connection.fetch(END_ALL, account_id)]
