"""What operators do to accounts, by username."""

from uuid import UUID

from devnest.store.database import Database
from devnest.store.queries.identifiers import folded

__all__ = ["disable_account", "enable_account", "find_account_id"]


async def find_account_id(database: Database, username: str) -> UUID | None:
    """Return the id of the account with this username in any case, or None."""
    account_id: UUID | None = await database.fetch_value(
        "SELECT id FROM accounts WHERE lower(username) = $1", folded(username)
    )
    return account_id


async def disable_account(database: Database, account_id: UUID) -> int:
    """Prevent sign-ins, end the sessions and void the mailed tokens of an account.

    Returns:
        How many sessions ended.
    """
    async with database.connection() as connection, connection.transaction():
        await connection.execute(
            "UPDATE accounts SET disabled_at = coalesce(disabled_at, now()) WHERE id = $1",
            account_id,
        )
        await connection.execute("DELETE FROM mailed_tokens WHERE account_id = $1", account_id)
        ended = await connection.fetch(
            "UPDATE sessions SET ended_at = now()"
            " WHERE account_id = $1 AND ended_at IS NULL AND expires_at > now() RETURNING id",
            account_id,
        )
    return len(ended)


async def enable_account(database: Database, account_id: UUID) -> None:
    """Allow sign-ins to the account again."""
    await database.fetch(
        "UPDATE accounts SET disabled_at = NULL WHERE id = $1 AND deleted_at IS NULL", account_id
    )
