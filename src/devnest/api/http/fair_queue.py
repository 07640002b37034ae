"""`FairQueue`: a bounded queue for a scarce resource, in which sources take turns."""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["FairQueue", "FairQueueFull"]

MAX_RETRY_AFTER_S = 30  # the mean of a few slow turns must not send a client away for long
LATEST_WEIGHT = 0.1  # of the latest turn in the moving average that estimates `retry_after`


class FairQueueFull(Exception):
    """The queue is full, or the caller waited too long. Try again after `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many searches are waiting")
        self.retry_after = retry_after


class FairQueue:
    """Lets a few callers use a resource at once, and the others wait in a bounded queue.

    Sources take turns, and the callers of one source are served in the order of their arrival.
    When the queue is full, the source with the most waiting callers loses its newest one, which
    may be the newcomer. So a source that makes a thousand calls delays another source by a turn
    or two only. A queue belongs to one event loop.

    Args:
        max_running: How many callers may use the resource at once.
        max_waiting: How many more may wait.
        max_wait_s: How long one may wait, in seconds.
        pause_factor: After a turn, its place stays free for this many times as long as the turn
            took. With 1, the resource is in use at most half of the time, whatever the load.
    """

    def __init__(
        self, max_running: int, max_waiting: int, max_wait_s: float, pause_factor: float = 0.0
    ) -> None:
        self._max_running = max_running
        self._free = max_running
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._pause_factor = pause_factor
        self._mean_s = 0.0
        # By source; the first source has the next turn. A waiter is done when its turn has come
        # or when it has been refused.
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.waiting = 0

    @asynccontextmanager
    async def turn(self, source: str) -> AsyncIterator[None]:
        """Wait for a turn, which lasts as long as the `async with` block.

        A caller that is cancelled while it waits leaves the queue.

        Args:
            source: Who is calling. Sources take turns with one another.

        Raises:
            FairQueueFull: The queue is full, or the turn did not come within `max_wait_s`.
        """
        if self._free:
            self._free -= 1
        else:
            await self._wait(source)
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        try:
            yield
        finally:
            took_s = loop.time() - began_at
            self._mean_s += LATEST_WEIGHT * (took_s - self._mean_s)
            if self._pause_factor:
                loop.call_later(self._pause_factor * took_s, self._start_next)
            else:
                self._start_next()

    async def _wait(self, source: str) -> None:
        if self.waiting >= self._max_waiting:
            self._evict_for(source)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(source, deque()).append(waiter)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._max_wait_s):
                await waiter
        except FairQueueFull:  # evicted; `_evict_for` has removed the waiter
            raise
        except BaseException as error:
            if waiter.cancelled():
                self._remove(source, waiter)
            elif waiter.exception() is None:  # the turn came at the moment of giving up
                self._start_next()
            if isinstance(error, TimeoutError):
                raise self._refusal() from None
            raise

    def _evict_for(self, source: str) -> None:
        """Refuse the newest caller of the source with most, or raise if that is the newcomer."""
        longest = max(self._queues, key=lambda name: len(self._queues[name]))
        if len(self._queues[longest]) <= len(self._queues.get(source, ())) + 1:
            raise self._refusal()
        waiter = self._queues[longest][-1]
        self._remove(longest, waiter)
        if not waiter.done():
            waiter.set_exception(self._refusal())

    def _remove(self, source: str, waiter: asyncio.Future[None]) -> None:
        queue = self._queues.get(source)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            self.waiting -= 1
            if not queue:
                del self._queues[source]

    def _start_next(self) -> None:
        """Give a free place to the next waiter, if there is one."""
        while self._queues:
            source, queue = next(iter(self._queues.items()))
            waiter = queue[0]
            self._remove(source, waiter)
            if waiter.done():  # cancelled, and its task has not run since
                continue
            if queue:
                self._queues.move_to_end(source)
            waiter.set_result(None)
            return
        self._free += 1

    def _refusal(self) -> FairQueueFull:
        wait_s = self._mean_s * (1 + self._pause_factor) * (self.waiting + 1) / self._max_running
        return FairQueueFull(max(1, min(MAX_RETRY_AFTER_S, math.ceil(wait_s))))
