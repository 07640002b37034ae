"""Group commit: calls that arrive while a group is running are run together afterwards."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeAlias, TypeVar

from devnest.store.database import ACQUIRE_TIMEOUT_S
from devnest.store.errors import DatabaseUnavailable

__all__ = ["GroupCommit"]

T = TypeVar("T")
R = TypeVar("R")
PAUSE_FACTOR = 1.0  # the pause after a group of several, as a multiple of the time it took
MAX_PAUSE_S = 0.01  # the longest pause, and so the most that pausing can add to a call
# The item, its result, and the loop time by which its group must have begun.
Call: TypeAlias = tuple[T, asyncio.Future[R], float]


class GroupCommit(Generic[T, R]):
    """Runs `work` on groups of items: `await grouped(item)` returns the result of one item.

    One group runs at a time. A call that finds none running starts immediately. The next group is
    all calls that arrived meanwhile. After a group of several there is a pause, in which more calls
    arrive. So a busy server pays for one statement and one commit instead of many, as PostgreSQL
    does when it flushes its write-ahead log.

    A call that is cancelled before its group begins is left out. The object belongs to one event
    loop.

    Args:
        work: Returns one result or exception for each item, in order. An exception that it raises
            is raised for each item.
        max_size: The most items in a group.
        pause_factor: The pause after a group of several, as a multiple of the time it took.
        timeout_s: A call whose group has not begun by then raises `DatabaseUnavailable`; by default
            as long as a query waits for a connection.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        max_size: int,
        pause_factor: float = PAUSE_FACTOR,
        timeout_s: float = ACQUIRE_TIMEOUT_S,
    ) -> None:
        self._work = work
        self._max_size = max_size
        self._pause_factor = pause_factor
        self._timeout_s = timeout_s
        self._paused_until = 0.0
        self._waiting: deque[Call[T, R]] = deque()  # in order of arrival
        self._runner: asyncio.Task[None] | None = None
        # One timer serves all calls. It is set for the oldest call and stays when that call is
        # served: a timer for each call would cost more than the rest of the wait. It is None only
        # while no call waits.
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, item: T) -> R:
        """Return the result of one item, or raise its exception.

        Raises:
            DatabaseUnavailable: Its group did not begin within `timeout_s`.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, result, loop.time() + self._timeout_s))
        if self._runner is None:
            # A group belongs to no request, so neither does what it logs.
            self._runner = asyncio.create_task(self._run(), context=Context())
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s, self._expire)
        return await result

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        group: list[Call[T, R]] = []
        try:
            while self._waiting:
                left_s = self._paused_until - loop.time()
                if left_s > 0 and len(self._waiting) < self._max_size:
                    await asyncio.sleep(left_s)
                began_at = loop.time()
                group = self._next_group()
                if not group:
                    break
                for (_, result, _), outcome in zip(group, await self._outcomes(group), strict=True):
                    if result.done():  # the caller was cancelled
                        continue
                    if isinstance(outcome, Exception):
                        result.set_exception(outcome)
                    else:
                        result.set_result(outcome)
                if len(group) > 1:
                    now = loop.time()
                    self._paused_until = now + min(
                        MAX_PAUSE_S, self._pause_factor * (now - began_at)
                    )
        except BaseException:  # this task or the work was cancelled
            for _, result, _ in (*group, *self._waiting):
                _refuse(result, "the group was cancelled")
            self._waiting.clear()
            raise
        finally:
            self._runner = None

    def _next_group(self) -> list[Call[T, R]]:
        group: list[Call[T, R]] = []
        while self._waiting and len(group) < self._max_size:
            call = self._waiting.popleft()
            if not call[1].done():
                group.append(call)
        return group

    async def _outcomes(self, group: list[Call[T, R]]) -> Sequence[R | Exception]:
        try:
            outcomes = await self._work([item for item, _, _ in group])
            assert len(outcomes) == len(group)
            return outcomes
        except Exception as error:
            return [error] * len(group)

    def _expire(self) -> None:
        """Refuse the calls that have waited too long, and set the timer for the next one."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiting:
            _, result, until = self._waiting[0]
            if until > now and not result.done():
                self._timer = loop.call_at(until, self._expire)
                return
            self._waiting.popleft()
            _refuse(result, f"the statement was not started within {self._timeout_s:g} s")
        self._timer = None


def _refuse(result: asyncio.Future[R], reason: str) -> None:
    if not result.done():
        result.set_exception(DatabaseUnavailable(reason))
