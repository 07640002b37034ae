"""One look-up for all who ask the same at once."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Rounds"]

T = TypeVar("T")


class Rounds(Generic[T]):
    """Questions are answered in rounds: who asks while a round of the same question runs waits for the next one.

    So nobody gets an answer that was looked up before they asked: what a client has just written it also reads. A busy
    server looks up less often than it is asked, and the busier it is the less often. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, _Round[T]] = {}  # by question; gone when its answer is there

    async def ask(self, question: Hashable, look_up: Callable[[], Awaitable[T]]) -> T:
        """The answer to a question, and what `look_up` raises. Who is cancelled leaves the others their answer."""
        last = self._last.get(question)
        if last is None or last.has_begun:
            last = self._last[question] = _Round(last, look_up)
            last.task.add_done_callback(lambda task: self._end(question, task))
        return await asyncio.shield(last.task)

    def _end(self, question: Hashable, task: "asyncio.Task[T]") -> None:
        task.exception()  # whoever asked may have gone; a failure is told to those who have not
        if self._last[question].task is task:
            del self._last[question]


class _Round(Generic[T]):
    def __init__(self, after: "_Round[T] | None", look_up: Callable[[], Awaitable[T]]) -> None:
        self.has_begun = False
        self.task = asyncio.ensure_future(self._run(after, look_up))

    async def _run(self, after: "_Round[T] | None", look_up: Callable[[], Awaitable[T]]) -> T:
        if after is not None:
            await asyncio.wait((after.task,))
        self.has_begun = True
        return await look_up()
