"""Searches wait for one another, and nothing else waits for them."""

from typing import Any, Self

from devnest.api.http.fair_queue import FairQueue
from devnest.store import Database, Post, search_database, search_posts

__all__ = ["Searches"]

# For each server, which has a CPU as a rule. With the rest, searches take half of that CPU at most, for PostgreSQL's
# processes go before those that hash.
MAX_RUNNING = 1
REST = 1.0  # times as long as a search took
MAX_WAITING = 100  # for each server: what it can answer in a second, where each takes 5 ms
MAX_WAIT_S = 5.0  # as long as for any connection


class Searches:
    """What searches posts, with connections and a queue of its own; `async with` opens and closes the connections.

    `main`, which is open, has the connections of everything else: where those move to another server, so do these.
    """

    def __init__(self, url: str, main: Database) -> None:
        self._main = main
        self.database = search_database(url, MAX_RUNNING)
        self._queue = FairQueue(MAX_RUNNING, MAX_WAITING, MAX_WAIT_S, REST)

    async def __aenter__(self) -> Self:
        await self.database.__aenter__()
        self.database.follow(self._main)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.database.__aexit__(*error)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._queue.waiting

    async def find(self, source: str, asked: str, limit: int, **more: Any) -> list[Post]:
        """`search_posts` when it is the turn of `source`, a client's network; raises `FairQueueFull` besides."""
        async with self._queue.turn(source):
            return await search_posts(self.database, asked, limit, **more)
