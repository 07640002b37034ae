"""A worker thread as the engine uses it, for functions that release the interpreter lock."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

from devnest.pool.calls import Outcome
from devnest.pool.functions import Function
from devnest.pool.runtime.process import Events
from devnest.pool.runtime.progress import ALL

__all__ = ["Call", "ThreadWorker"]

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class ThreadWorker:
    """Owns a daemon thread and the queue from which it takes batches."""

    def __init__(self, loop: asyncio.AbstractEventLoop, worker_id: int, events: Events) -> None:
        self._loop = loop
        self._id = worker_id
        self._events = events
        self._inbox: queue.SimpleQueue[tuple[int, Function, Sequence[Call]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(
            target=self._serve, name=f"devnest.pool-{worker_id}", daemon=True
        )
        self._thread.start()

    def send(self, batch_id: int, function: Function, payloads: Sequence[object]) -> None:
        """Send a batch of calls of one function."""
        self._inbox.put((batch_id, function, cast(Sequence[Call], payloads)))

    def stop(self) -> None:
        """Ask the thread to end when it is idle."""
        self._inbox.put(None)

    def kill(self) -> None:
        """Abandon the thread: it ends when its present function returns."""
        self._inbox.put(None)
        self._loop.call_soon(self._end, "was abandoned")

    def hold(self) -> None:
        """Do nothing, since calls to threads are never coalesced."""

    @property
    def begun(self) -> int:
        """All calls of its batch."""
        return ALL

    def _serve(self) -> None:
        self._notify(self._events.worker_ready, self._id)
        while (message := self._inbox.get()) is not None:
            batch_id, function, calls = message
            outcomes = _run(function, calls)
            failed = sum(outcome.error is not None for outcome in outcomes)
            self._notify(self._done, batch_id, outcomes, failed)
            del message, calls, outcomes  # or they would live until the next batch
        self._notify(self._ended)

    def _done(self, batch_id: int, outcomes: Sequence[Outcome], failed: int) -> None:
        self._events.worker_done(self._id, batch_id, outcomes, failed=failed, rss=0)

    def _ended(self) -> None:
        self._thread.join()
        self._end("ended")

    def _end(self, how: str) -> None:
        self._events.worker_ended(self._id, how, begun=ALL)

    def _notify(self, event: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed before the thread ended
            self._loop.call_soon_threadsafe(event, *args)


def _run(function: Function, calls: Sequence[Call]) -> list[Outcome]:
    func = calls[0][0]
    if function.max_size:
        return _run_many(func, [args for _, args, _ in calls], function.pure)
    return [_run_one(*call) for call in calls]


def _run_one(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
    try:
        return Outcome(func(*args, **kwargs))
    except BaseException as error:  # whatever a task raises, the thread goes on
        return Outcome(None, error)


def _run_many(
    func: Callable[..., Any], calls: list[tuple[Any, ...]], is_pure: bool
) -> list[Outcome]:
    try:
        results = list(func(calls))
        if len(results) != len(calls):
            raise ValueError(f"a batch of {len(calls)} calls gave {len(results)} results")
    except BaseException as error:
        if is_pure and len(calls) > 1:
            return [outcome for call in calls for outcome in _run_many(func, [call], is_pure)]
        return [Outcome(None, error)] * len(calls)
    # `type`, not `isinstance`, which an object can deceive by its `__class__`.
    return [Outcome(None, r) if issubclass(type(r), BaseException) else Outcome(r) for r in results]
