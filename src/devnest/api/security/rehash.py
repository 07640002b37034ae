"""After a good sign-in: the hash below today's policy is replaced, while nobody waits for it.

Only then is the password known. The work has the lowest priority in the pool's queue and a turn of its own there, so
that it takes no place from the client whose sign-in it was. The new hash is stored where the old one still is: a
change or a reset of the password that comes in between stays. What fails is left to the next sign-in.
"""

import asyncio
from typing import Self
from uuid import UUID

import structlog

from devnest.passwords import Hasher, Work
from devnest.pool import PoolError
from devnest.store import Database, Event, StoreError, record_event, replace_hash

__all__ = ["Rehasher"]

MAX_WAITING = 100  # of one server; each holds a password in memory
CLIENT = "rehash"  # whose turn it is in the queue; no address is called so
log = structlog.get_logger("devnest.api")


class Rehasher:
    """Replaces hashes in the background while it is open; the end cancels what waits. Belongs to one event loop."""

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

    def consider(self, account_id: UUID, password: str, stored: str) -> None:
        """Replace `stored`, which the password has just matched, where it is below the policy; returns at once.

        Once at a time for an account, and not at all where a hundred wait.
        """
        if (
            not self._hasher.is_below_policy(stored)
            or account_id in self._tasks
            or len(self._tasks) >= MAX_WAITING
        ):
            return
        task = asyncio.create_task(self._replace(account_id, password, stored))
        self._tasks[account_id] = task  # the loop itself keeps weak references only
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
            # The kind alone: a message, and a traceback with it, could quote what was hashed.
            log.error(
                "password not rehashed", account_id=str(account_id), reason=type(error).__name__
            )
