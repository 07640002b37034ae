"""Housekeeping: rows that are no longer needed are deleted in small batches."""

import asyncio
import contextlib
import random
from typing import Self

import asyncpg
import structlog

from devnest.store.database import Database
from devnest.store.errors import DatabaseUnavailable

__all__ = ["Housekeeper", "purge"]

PERIOD_S = 600.0
BATCH_ROWS = 5_000  # the most rows that one statement deletes, so that none takes long
STALE = [
    # Ended sessions stay for 14 days: a server whose connection was interrupted reads them.
    ("sessions", "coalesce(ended_at, expires_at) < now() - interval '14 days'"),
    ("audit_log", "at < now() - interval '180 days'"),
    ("mailed_tokens", "expires_at < now()"),
    ("mailboxes", "counted_until < now()"),
    ("held_names", "until < now()"),
    ("idempotency_keys", "created_at < now() - interval '24 hours'"),
    ("throttles", "empty_at < now() AND blocked_until < now()"),
]
log = structlog.get_logger("devnest.store")


async def purge(database: Database) -> int:
    """Delete all rows that are no longer needed, and return how many there were."""
    deleted = 0
    for table, stale in STALE:
        last = BATCH_ROWS
        while last == BATCH_ROWS:
            last = await database.fetch_value(
                f"WITH gone AS (DELETE FROM {table} WHERE ctid = ANY(ARRAY("  # noqa: S608
                f"SELECT ctid FROM {table} WHERE {stale}"
                " LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING 1) SELECT count(*) FROM gone",
                BATCH_ROWS,
            )
            deleted += last
    return deleted


class Housekeeper:
    """Runs `purge` about every ten minutes while it is open. Several at once do no harm."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None, "not open"
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _work(self) -> None:
        while True:
            # Random, so that the servers do not purge at the same moment.
            await asyncio.sleep(PERIOD_S * random.uniform(0.5, 1.5))  # noqa: S311
            try:
                if deleted := await purge(self._database):
                    log.info("purged", rows=deleted)
            except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                log.warning("not purged", reason=str(error))
