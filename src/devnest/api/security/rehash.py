"""`Rehasher`: replaces outdated password hashes in the background, after a sign-in.

A sign-in is the only time when the password is known. Rehashing has the lowest priority in the
pool's queue, and a key of its own there, so it does not count as work of the client that signed
in. The new hash is stored only if the old one is still there, so a change or a reset of the
password in the meantime is kept. If rehashing fails, the next sign-in tries again.
"""

import asyncio
from typing import Self
from uuid import UUID

import structlog

from devnest.passwords import Hasher, Work
from devnest.pool import PoolError
from devnest.store import Database, Event, StoreError, record_event, replace_hash

__all__ = ["Rehasher"]

MAX_WAITING = 100  # hashes in progress on one server; each keeps a password in memory
CLIENT = "rehash"  # the key in the pool's queue; no network has this name
log = structlog.get_logger("devnest.api")


class Rehasher:
    """Replaces hashes while it is open; closing it cancels what has not finished.

    An object belongs to one event loop.

    Args:
        database: Where the hashes are stored.
        hasher: Computes the new hashes.
    """

    def __init__(self, database: Database, hasher: Hasher) -> None:
        self._database = database
        self._hasher = hasher
        self._tasks: dict[UUID, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def replace(self, account_id: UUID, password: str, stored: str) -> None:
        """Start to replace a hash, and return immediately.

        Nothing happens if the account's hash is being replaced already, or if `MAX_WAITING`
        others are.

        Args:
            account_id: The account.
            password: Its password, which has just matched the hash.
            stored: The stored hash.
        """
        if account_id in self._tasks or len(self._tasks) >= MAX_WAITING:
            return
        task = asyncio.create_task(self._replace(account_id, password, stored))
        self._tasks[account_id] = task  # the event loop keeps only a weak reference
        task.add_done_callback(lambda _: self._tasks.pop(account_id, None))

    async def _replace(self, account_id: UUID, password: str, stored: str) -> None:
        try:
            better = await self._hasher.hash(password, client=CLIENT, work=Work.REHASH)
            if await replace_hash(self._database, account_id, stored, better):
                await record_event(self._database, Event.PASSWORD_REHASH, account_id=account_id)
        except (PoolError, StoreError) as error:
            log.info(
                "password not rehashed", account_id=str(account_id), reason=type(error).__name__
            )
        except Exception as error:
            # The message and the traceback could contain the password, so only the type is logged.
            log.error(
                "password not rehashed", account_id=str(account_id), reason=type(error).__name__
            )
