"""Idempotency keys: the answer to a request is kept for a day and returned when it is repeated.

The answer is written in the transaction that does the work, so after a crash either both exist or
neither. Of two concurrent requests, the second waits at the row of the key until the first is
committed, rolls back its own work, and returns the answer of the first. Only successful answers are
kept. A refused request changed nothing, so its key can be used again.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import msgspec

from devnest.store.connections import Connection
from devnest.store.database import Database
from devnest.store.errors import KeyReused, KeyTaken

__all__ = ["Claim", "find_answer", "keep_answer", "run_once"]

T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """An idempotency key and the request under it, both hashed.

    Attributes:
        id: The hash of the key within its scope.
        fingerprint: The hash of the request.
    """

    id: bytes
    fingerprint: bytes


async def find_answer(database: Database, claim: Claim, kind: type[T]) -> T | None:
    """Return the answer that was given under this key, or None.

    Raises:
        KeyReused: The key was used for another request.
    """
    row = await database.fetch_row(
        "SELECT fingerprint, answer FROM idempotency_keys WHERE id = $1", claim.id
    )
    if row is None:
        return None
    if row["fingerprint"] != claim.fingerprint:
        raise KeyReused
    return msgspec.json.decode(row["answer"], type=kind)


async def keep_answer(
    connection: Connection, claim: Claim, account_id: UUID, answer: msgspec.Struct
) -> None:
    """Store an answer in the transaction that did the work.

    Raises:
        KeyTaken: A concurrent request with the same key has committed first.
    """
    kept = await connection.fetchval(
        "INSERT INTO idempotency_keys (id, fingerprint, account_id, answer) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (id) DO NOTHING RETURNING true",
        claim.id, claim.fingerprint, account_id, msgspec.json.encode(answer),
    )  # fmt: skip
    if not kept:
        raise KeyTaken


async def run_once(
    database: Database,
    claim: Claim | None,
    account_id: UUID,
    kind: type[T],
    make: Callable[[Connection], Awaitable[T | None]],
) -> T | None:
    """Run `make` once per claim, and return its result or the earlier one.

    Args:
        database: Where the answers are kept.
        claim: The idempotency key, or None to just run `make`.
        account_id: The account that sent the request.
        kind: The type of the answer.
        make: Does the work on a connection, within a transaction if there is a claim. A result of
            None is not kept.

    Raises:
        KeyReused: The key was used for another request.
    """
    if claim is None:
        async with database.connection() as connection:
            return await make(connection)
    earlier = await find_answer(database, claim, kind)
    if earlier is not None:
        return earlier
    try:
        async with database.connection() as connection, connection.transaction():
            made = await make(connection)
            if made is not None:
                assert isinstance(made, msgspec.Struct)
                await keep_answer(connection, claim, account_id, made)
            return made
    except KeyTaken:
        return await run_once(database, claim, account_id, kind, make)  # it finds the answer now
