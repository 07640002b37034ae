"""The most used tags, counted from time to time.

Counting reads the tags of every post. With a table of counts, posts with the same tag would wait
for each other. So the result is cached instead: for one second, or for fifty times as long as
counting took. A server thus spends at most a fiftieth of one connection's time on counting, however
many requests and posts there are.
"""

import asyncio
import time

import msgspec

from devnest.store.database import Database

__all__ = ["TagCount", "Tags"]

MAX_TAGS = 200  # in one answer
MIN_CACHE_S = 1.0  # however fast counting is
CACHE_FACTOR = 50  # the cache lifetime as a multiple of the time that counting took


class TagCount(msgspec.Struct, frozen=True):
    """A tag, and how many posts have it."""

    tag: str
    count: int


class Tags:
    """The most used tags, cached. It belongs to one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counting: asyncio.Task[list[TagCount]] | None = None
        self._fresh_until = 0.0

    async def most_used(self) -> list[TagCount]:
        """Return the 200 tags that most posts have. Concurrent calls share one count."""
        if self._counting is None or (
            self._counting.done() and time.monotonic() >= self._fresh_until
        ):
            self._counting = asyncio.create_task(self._count())
            # All callers may be gone when it ends, so the exception is always retrieved here.
            self._counting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._counting)

    async def _count(self) -> list[TagCount]:
        started = time.monotonic()
        rows = await self._database.fetch(
            "SELECT tag, count(*) FROM posts, unnest(tags) AS tag GROUP BY tag"
            " ORDER BY count(*) DESC, tag LIMIT $1",
            MAX_TAGS,
        )
        now = time.monotonic()
        self._fresh_until = now + max(MIN_CACHE_S, CACHE_FACTOR * (now - started))
        return [TagCount(*row) for row in rows]
