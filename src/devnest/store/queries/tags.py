"""The tags in use, counted now and then.

Counting reads every post's tags. A table of counts would make publishing wait for everybody who publishes under the
same tag, so the answer is remembered instead: for a second, or for fifty times as long as counting took, so that a
server spends two hundredths of a connection's time on it however often it is asked and however many posts there are.
"""

import asyncio
import time

import msgspec

from devnest.store.database import Database

__all__ = ["TagCount", "Tags"]

MAX_TAGS = 200
MIN_CACHE_S = 1.0
CACHE_FACTOR = 50  # times what counting took


class TagCount(msgspec.Struct, frozen=True):
    """A tag, and how many posts carry it."""

    tag: str
    count: int


class Tags:
    """The most used tags, remembered. Belongs to one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counting: asyncio.Task[list[TagCount]] | None = None
        self._fresh_until = 0.0

    async def most_used(self) -> list[TagCount]:
        """The 200 tags that most posts carry; who asks at the same time waits for the same count."""
        if self._counting is None or (
            self._counting.done() and time.monotonic() >= self._fresh_until
        ):
            self._counting = asyncio.create_task(self._count())
            self._counting.add_done_callback(
                lambda task: task.cancelled() or task.exception()
            )  # nobody may be left
        return await asyncio.shield(self._counting)

    async def _count(self) -> list[TagCount]:
        started = time.monotonic()
        rows = await self._database.fetch(
            "SELECT tag, count(*) FROM posts, unnest(tags) AS tag GROUP BY tag ORDER BY count(*) DESC, tag LIMIT $1",
            MAX_TAGS,
        )
        now = time.monotonic()
        self._fresh_until = now + max(MIN_CACHE_S, CACHE_FACTOR * (now - started))
        return [TagCount(*row) for row in rows]
