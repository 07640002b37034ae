"""Locks for usernames and e-mail addresses, so that of two concurrent claims one succeeds.

A unique index alone would report the second claim as an error, and PostgreSQL would log it with the
value. So a transaction that claims a name or an address takes an advisory lock on it first, and
then runs a conditional statement. All transactions lock in the same order: the name, the address,
rows of `accounts`, everything else.

A trigger keeps each name that was given up in `held_names`, whoever renames the account. The
trigger also refuses to give a held name to another account. It is the last resort: the statements
here check before they write.
"""

import hashlib

from devnest.store.connections import Connection
from devnest.store.queries.identifiers import folded

__all__ = ["lock_address", "lock_key", "lock_name"]

# Keys of two parts. The migrations lock a key of one part, which never collides with these.
LOCK_NAME = "SELECT pg_advisory_xact_lock(1, $1)"
LOCK_ADDRESS = "SELECT pg_advisory_xact_lock(2, $1)"


async def lock_name(connection: Connection, username: str) -> None:
    """Lock a username until the end of the transaction."""
    await connection.execute(LOCK_NAME, lock_key(username))


async def lock_address(connection: Connection, email: str) -> None:
    """Lock an e-mail address until the end of the transaction."""
    await connection.execute(LOCK_ADDRESS, lock_key(email))


def lock_key(value: str) -> int:
    """Return the lock key of a username or an address, ignoring case.

    Two values with the same key only wait for each other.
    """
    return int.from_bytes(hashlib.sha256(folded(value).encode()).digest()[:4], signed=True)
