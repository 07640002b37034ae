"""One look-up for all who ask the same at once."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["SingleFlight"]

T = TypeVar("T")
REST = 3.0  # times as long as its look-up took, a question rests before it is looked up again
MAX_REST_S = 0.01
MAX_RESTING = 1000  # questions; past them all are taken for rested


class SingleFlight(Generic[T]):
    """Questions are answered in rounds: who asks while a round of the same question runs waits for the next one.

    So nobody gets an answer that was looked up before they asked: what a client has just written it also reads. After a
    round for several a question rests in proportion to what the round took, so that on a busy machine, where a look-up
    is slow, it is made for many. Who asks alone does not wait. Belongs to one event loop.
    """

    def __init__(self, rest: float = REST) -> None:
        self._rest = rest
        self._last: dict[Hashable, _Flight[T]] = {}  # by question; gone when its answer is there
        self._rested_at: dict[Hashable, float] = {}

    async def ask(self, question: Hashable, look_up: Callable[[], Awaitable[T]]) -> T:
        """The answer to a question, and what `look_up` raises. Who is cancelled leaves the others their answer."""
        last = self._last.get(question)
        if last is None or last.has_begun:
            last = self._last[question] = _Flight(last)
            last.task = asyncio.ensure_future(self._run(last, question, look_up))
            last.task.add_done_callback(lambda task: self._end(question, task))
        last.askers += 1
        return await asyncio.shield(last.task)

    async def _run(
        self, this: "_Flight[T]", question: Hashable, look_up: Callable[[], Awaitable[T]]
    ) -> T:
        loop = asyncio.get_running_loop()
        if this.before is not None:
            await asyncio.wait((this.before.task,))
            this.before = None
        left_s = self._rested_at.get(question, 0.0) - loop.time()
        if left_s > 0:
            await asyncio.sleep(left_s)
        this.has_begun, began_at = True, loop.time()
        answer = await look_up()
        if this.askers > 1:
            now = loop.time()
            if len(self._rested_at) >= MAX_RESTING:
                self._rested_at.clear()
            self._rested_at[question] = now + min(MAX_REST_S, self._rest * (now - began_at))
        return answer

    def _end(self, question: Hashable, task: "asyncio.Task[T]") -> None:
        if not task.cancelled():
            task.exception()  # whoever asked may have gone; a failure is told to those who have not
        if self._last[question].task is task:
            del self._last[question]


class _Flight(Generic[T]):
    def __init__(self, before: "_Flight[T] | None") -> None:
        self.before = before
        self.askers = 0
        self.has_begun = False
        self.task: asyncio.Task[T]
