"""Answers kept for a day, so that a request that comes again with its key is answered again and not done again.

The answer is written in the transaction that does the work: after a crash there are both or neither. Of two at once
the second waits at the key's row until the first is done, undoes its own work and answers what the first did. Only
what succeeded is kept; a refusal did nothing, so its key is as good as new.
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
    """A key within its scope, and what is asked under it, both hashed."""

    id: bytes
    fingerprint: bytes


async def find_answer(database: Database, claim: Claim, kind: type[T]) -> T | None:
    """What was answered under this key, or None. Raises `KeyReused` where something else was asked."""
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
    """Keep an answer in the transaction that made it; raises `KeyTaken` where another request was faster."""
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
    """What `make` makes, or made under this claim before. Without a claim, only that; None is not kept."""
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
        return await run_once(database, claim, account_id, kind, make)  # which finds it
