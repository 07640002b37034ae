"""Calls that come while others are being carried out wait, and are then carried out together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["Grouped"]

T = TypeVar("T")
R = TypeVar("R")
REST = 1.0  # times as long as a group took, before the next one begins
MOST_REST_S = 0.01


class Grouped(Generic[T, R]):
    """`await grouped(item)` is that item's result of `work(items)`, of which one runs at a time.

    A call that finds nothing running starts at once, and the next group is whoever came meanwhile; after a group of
    several there is a rest as long as it took, in which more come. So a busy server pays for one statement and one
    commit where it would have paid for many, as PostgreSQL itself does with the writes of its log.

    `work` gives a result or an exception for each item, in order; what it raises is raised for each. A call that is
    cancelled before its group begins is left out. Belongs to one event loop.
    """

    def __init__(
        self, work: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]], most: int, rest: float = REST
    ) -> None:
        self._work = work
        self._most = most
        self._rest = rest
        self._rested_at = 0.0
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._runner: asyncio.Task[None] | None = None

    async def __call__(self, item: T) -> R:
        """The item's own result, or the exception it ended with."""
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        return await result

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                left_s = self._rested_at - loop.time()
                if left_s > 0 and len(self._waiting) < self._most:
                    await asyncio.sleep(left_s)
                began_at = loop.time()
                group = self._next_group()
                if not group:
                    break
                for (_, result), outcome in zip(group, await self._outcomes(group), strict=True):
                    if result.done():  # its caller has gone
                        continue
                    if isinstance(outcome, Exception):
                        result.set_exception(outcome)
                    else:
                        result.set_result(outcome)
                if len(group) > 1:
                    now = loop.time()
                    self._rested_at = now + min(MOST_REST_S, self._rest * (now - began_at))
        finally:
            self._runner = None

    def _next_group(self) -> list[tuple[T, asyncio.Future[R]]]:
        group: list[tuple[T, asyncio.Future[R]]] = []
        while self._waiting and len(group) < self._most:
            item, result = self._waiting.popleft()
            if not result.done():
                group.append((item, result))
        return group

    async def _outcomes(self, group: list[tuple[T, asyncio.Future[R]]]) -> Sequence[R | Exception]:
        try:
            outcomes = await self._work([item for item, _ in group])
            assert len(outcomes) == len(group)
            return outcomes
        except Exception as error:
            return [error] * len(group)
