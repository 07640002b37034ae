"""FairQueue at something that few may use at once: who waits is bounded, and sources go one after another."""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["FairQueue", "FairQueueFull"]

MAX_RETRY_AFTER_S = 30
WEIGHT = 0.1  # of the last turn in the mean that `retry_after` is made of


class FairQueueFull(Exception):
    """Too many wait, or one has waited too long; worth another try after `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many searches wait")
        self.retry_after = retry_after


class FairQueue:
    """`async with turns.turn(source)`: `running` of them at once, up to `waiting` more wait, `patience_s` at most.

    After a turn the next one is `rest` times as long away as it took: with 1, each of the `running` is in use half the
    time at most, however much is asked.

    Sources take turns with one another, and inside a source whoever came first goes first. Where as many wait as may,
    whichever source has most waiting loses its newest, be it the newcomer. So a source that asks a thousand times
    makes another one wait for a turn or two. Belongs to one event loop.
    """

    def __init__(self, running: int, waiting: int, patience_s: float, rest: float = 0.0) -> None:
        self._running = running
        self._free = running
        self._max_waiting = waiting
        self._patience_s = patience_s
        self._rest = rest
        self._mean_s = 0.0
        # By source, the one whose turn is next first. A waiter is done when its turn has come, or it was refused.
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.waiting = 0

    @asynccontextmanager
    async def turn(self, source: str) -> AsyncIterator[None]:
        """A turn; raises `FairQueueFull`. Who is cancelled while waiting leaves the queue."""
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
            self._mean_s += WEIGHT * (took_s - self._mean_s)
            if self._rest:
                loop.call_later(self._rest * took_s, self._pass_on)
            else:
                self._pass_on()

    async def _wait(self, source: str) -> None:
        if self.waiting >= self._max_waiting:
            self._make_room(source)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(source, deque()).append(waiter)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience_s):
                await waiter
        except FairQueueFull:  # another one needed the room
            raise
        except BaseException as error:
            if waiter.cancelled():
                self._leave(source, waiter)
            elif waiter.exception() is None:  # its turn came in the moment of giving up
                self._pass_on()
            if isinstance(error, TimeoutError):
                raise self._full() from None
            raise

    def _make_room(self, source: str) -> None:
        longest = max(self._lines, key=lambda name: len(self._lines[name]))
        if len(self._lines[longest]) <= len(self._lines.get(source, ())) + 1:
            raise self._full()
        waiter = self._lines[longest][-1]
        self._leave(longest, waiter)
        if not waiter.done():
            waiter.set_exception(self._full())

    def _leave(self, source: str, waiter: asyncio.Future[None]) -> None:
        line = self._lines.get(source)
        if line is not None and waiter in line:
            line.remove(waiter)
            self.waiting -= 1
            if not line:
                del self._lines[source]

    def _pass_on(self) -> None:
        """A turn has ended: it is the next one's, or nobody's."""
        while self._lines:
            source, line = next(iter(self._lines.items()))
            waiter = line[0]
            self._leave(source, waiter)
            if waiter.done():  # cancelled, and it has yet to run
                continue
            if line:
                self._lines.move_to_end(source)
            waiter.set_result(None)
            return
        self._free += 1

    def _full(self) -> FairQueueFull:
        wait_s = self._mean_s * (1 + self._rest) * (self.waiting + 1) / self._running
        return FairQueueFull(max(1, min(MAX_RETRY_AFTER_S, math.ceil(wait_s))))
