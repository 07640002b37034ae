"""`SingleFlight`: concurrent callers with the same key share one load."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["SingleFlight"]

T = TypeVar("T")
PAUSE_FACTOR = 3.0  # a key pauses for this many times as long as its shared load took
MAX_PAUSE_S = 0.01  # a caller waits this much longer at most
MAX_PAUSES = 1000  # keys that are remembered; clients choose them, so memory needs a bound


class SingleFlight(Generic[T]):
    """Runs at most one load for a key at a time, and gives its result to all who wait for it.

    A caller that arrives while a load runs waits for the next one. Go's `singleflight` would give
    it the result of the load that runs. Here no result is older than its caller's request, so
    clients read what they have just written, and nothing has to be invalidated.

    After a load for several callers, its key pauses before the next load. The pause is
    proportional to the time of the load, so a busy machine, where loads are slow, serves more
    callers with each. A single caller never waits. An object belongs to one event loop.

    Args:
        pause_factor: The length of a pause, as a multiple of the time that the load took.
    """

    def __init__(self, pause_factor: float = PAUSE_FACTOR) -> None:
        self._pause_factor = pause_factor
        self._newest: dict[Hashable, _Flight[T]] = {}  # by key; removed when the load has ended
        self._paused_until: dict[Hashable, float] = {}  # by key, in the loop's time

    async def get(self, key: Hashable, load: Callable[[], Awaitable[T]]) -> T:
        """Load the value of a key, or wait for a load that starts after this call.

        Cancelling a caller does not cancel the load, so the others still get its result.

        Args:
            key: Callers with equal keys share a load.
            load: Called once for all who share it; the load of the first of them is used.

        Returns:
            What `load` returned.

        Raises:
            Exception: Whatever `load` raised, to all who shared it.
        """
        newest = self._newest.get(key)
        if newest is None or newest.has_started:
            newest = self._newest[key] = _Flight(newest)
            newest.task = asyncio.ensure_future(self._run(newest, key, load))
            newest.task.add_done_callback(lambda task: self._end(key, task))
        newest.callers += 1
        return await asyncio.shield(newest.task)

    async def _run(self, this: "_Flight[T]", key: Hashable, load: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        if this.previous is not None:
            await asyncio.wait((this.previous.task,))
            this.previous = None
        left_s = self._paused_until.get(key, 0.0) - loop.time()
        if left_s > 0:
            await asyncio.sleep(left_s)
        this.has_started, began_at = True, loop.time()
        value = await load()
        if this.callers > 1:
            now = loop.time()
            if len(self._paused_until) >= MAX_PAUSES:
                self._paused_until.clear()
            pause_s = min(MAX_PAUSE_S, self._pause_factor * (now - began_at))
            self._paused_until[key] = now + pause_s
        return value

    def _end(self, key: Hashable, task: "asyncio.Task[T]") -> None:
        if not task.cancelled():
            # If every caller was cancelled, asyncio would log the exception as never retrieved.
            task.exception()
        if self._newest[key].task is task:
            del self._newest[key]


class _Flight(Generic[T]):
    """One load and the callers that share it."""

    def __init__(self, previous: "_Flight[T] | None") -> None:
        self.previous = previous
        self.callers = 0
        self.has_started = False
        self.task: asyncio.Task[T]
