"""`Searches`: a queue and connections for searches, so that no other request waits for them."""

from typing import Any, Self

from devnest.api.http.fair_queue import FairQueue
from devnest.store import Database, Post, search_database, search_posts

__all__ = ["Searches"]

# For each server. PostgreSQL's processes have a higher priority than those that hash, so without
# a pause after each search, searches could take all of a CPU from sign-ins. With one search at a
# time and a pause as long as the search, they take half of a CPU at most.
MAX_RUNNING = 1
PAUSE_FACTOR = 1.0  # the length of the pause, as a multiple of the time the search took
MAX_WAITING = 100  # for each server; with searches of 5 ms this is the work of one second
MAX_WAIT_S = 5.0  # the same as the wait for any other connection to the database


class Searches:
    """Searches posts, one at a time on each server; `async with` opens and closes its connections.

    Args:
        url: The database's URL.
        main: The open connections of all other requests. When these move to another database
            server, the connections of searches follow them.
    """

    def __init__(self, url: str, main: Database) -> None:
        self._main = main
        self.database = search_database(url, MAX_RUNNING)
        self._queue = FairQueue(MAX_RUNNING, MAX_WAITING, MAX_WAIT_S, PAUSE_FACTOR)

    async def __aenter__(self) -> Self:
        await self.database.__aenter__()
        self.database.follow(self._main)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.database.__aexit__(*error)

    @property
    def waiting(self) -> int:
        """How many searches are waiting for their turn."""
        return self._queue.waiting

    async def find(self, source: str, asked: str, limit: int, **more: Any) -> list[Post]:
        """Wait for a turn, then search.

        Cancelling it takes the search out of the queue, or cancels its statement in PostgreSQL.

        Args:
            source: The client's network; networks take turns.
            asked: The text to search for.
            limit: How many posts to find at most.
            more: Further arguments of `search_posts`.

        Raises:
            FairQueueFull: Too many searches are waiting, or this one waited too long.
            SearchRefused: The text cannot be searched for.
            SearchTooSlow: PostgreSQL ended the search after its time limit.
        """
        async with self._queue.turn(source):
            return await search_posts(self.database, asked, limit, **more)
