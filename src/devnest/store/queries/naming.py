"""Who gets a name or an address: decided under locks, so that whoever comes second is told and no statement fails.

A unique index alone would decide by an error, which PostgreSQL writes into its log with the value. So whoever takes a
name or an address locks it until the end of the transaction, by an advisory lock, and takes it by a conditional
statement. Everybody locks in the same order: the name, the address, rows of `accounts`, everything else.

A name that was given up is kept in `held_names` by a trigger, whoever renames the account. The trigger also refuses a
name that is held, whoever makes the row. It is the last resort: the statements here ask before.
"""

import hashlib

from devnest.store.connections import Connection
from devnest.store.queries.identifiers import folded

__all__ = ["lock_address", "lock_key", "lock_name"]

# Two-part keys; the migrations' lock has a key of one part, which is another kind.
LOCK_NAME = "SELECT pg_advisory_xact_lock(1, $1)"
LOCK_ADDRESS = "SELECT pg_advisory_xact_lock(2, $1)"


async def lock_name(connection: Connection, username: str) -> None:
    """Let nobody else take this name before the end of the transaction."""
    await connection.execute(LOCK_NAME, lock_key(username))


async def lock_address(connection: Connection, email: str) -> None:
    """Let nobody else take this address before the end of the transaction."""
    await connection.execute(LOCK_ADDRESS, lock_key(email))


def lock_key(value: str) -> int:
    """The key of the lock of a name or an address, in any case; two that share one only wait for each other."""
    return int.from_bytes(hashlib.sha256(folded(value).encode()).digest()[:4], signed=True)
