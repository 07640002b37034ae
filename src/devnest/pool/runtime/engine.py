"""Carries out the scheduler's decisions on an event loop: workers, timers, answers."""

import asyncio
import functools
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from devnest.pool.core.actions import Action, Answer, Hold, Reclaim, Send, Start, Stop
from devnest.pool.core.limits import Limits
from devnest.pool.core.scheduler import Scheduler
from devnest.pool.core.stats import Stats
from devnest.pool.core.tasks import Task
from devnest.pool.functions import Function
from devnest.pool.runtime.process import Events

__all__ = ["Engine", "WorkerHandle"]

_log = logging.getLogger("devnest.pool")


class WorkerHandle(Protocol):
    """A worker process or thread, as the engine uses it."""

    def send(self, batch_id: int, function: Function, payloads: Sequence[object]) -> None:
        """Send a batch of calls of one function."""

    def stop(self) -> None:
        """Ask the worker to exit when it is idle."""

    def kill(self) -> None:
        """End the worker now."""

    def hold(self) -> None:
        """Keep the worker from beginning further calls of its batch."""

    @property
    def begun(self) -> int:
        """The index of the last call of the batch that the worker has begun."""


class Engine:
    """The scheduler with its clock, timer and workers; everything happens on one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        start_worker: Callable[[int, Events], WorkerHandle],
    ) -> None:
        self.loop = loop
        # Not `loop.time()`, which has only milliseconds on uvloop.
        self.scheduler = Scheduler(limits, time.monotonic())
        self.workers: dict[int, WorkerHandle] = {}
        self._start_worker = start_worker
        self._is_dispatch_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._first_worker: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()

    def submit(self, task: Task) -> None:
        """Submit a task, whose `answer` is called later; raises as `Scheduler.submit` does."""
        self._perform(self.scheduler.submit(task, time.monotonic()))
        if self.scheduler.waiting:
            self.dispatch_soon()

    def cancel(self, task: Task) -> None:
        """Drop a task, without an answer."""
        self._perform(self.scheduler.cancel(task))
        self.dispatch_soon()

    def orphan(self, task: Task) -> None:
        """Drop a task whose client disconnected."""
        self._perform(self.scheduler.orphan(task, time.monotonic()))
        self.dispatch_soon()

    def resize(self, limits: Limits) -> None:
        """Replace the limits."""
        self._perform(self.scheduler.resize(limits))
        self.dispatch_soon()

    def stats(self) -> Stats:
        """Return the present statistics."""
        return self.scheduler.stats(time.monotonic())

    async def start(self) -> None:
        """Start `min_workers` workers, and wait until the first one is ready or has failed."""
        self.dispatch_soon()
        if self.scheduler.workers.limits.min_workers:
            await asyncio.shield(self._first_worker)

    async def close(self, *, force: bool, deadline: float | None) -> None:
        """Accept no more tasks, wait up to `deadline` seconds for the others, end the workers."""
        self._perform(self.scheduler.close(force=force))
        self.dispatch_soon()
        try:
            async with asyncio.timeout(None if force else deadline):
                await asyncio.shield(self._ended)
        except (TimeoutError, asyncio.CancelledError) as reason:
            # The time is up or the waiting caller was cancelled. Kill the workers, and wait until
            # they have ended, so that no process is left behind.
            self._perform(self.scheduler.close(force=True))
            self.dispatch_soon()
            await asyncio.shield(self._ended)
            if isinstance(reason, asyncio.CancelledError):
                raise

    def dispatch_soon(self) -> None:
        """Schedule one dispatch at the end of this event loop iteration."""
        if not self._is_dispatch_due:
            self._is_dispatch_due = True
            self.loop.call_soon(self._dispatch)

    # Events from workers.

    def worker_ready(self, worker_id: int) -> None:
        """See `Events`."""
        self._perform(self.scheduler.ready(worker_id, time.monotonic()))
        self.dispatch_soon()
        self._resolve_first()

    def worker_done(
        self, worker_id: int, batch_id: int, answers: Sequence[object], *, failed: int, rss: int
    ) -> None:
        """See `Events`."""
        self._perform(
            self.scheduler.done(
                worker_id, batch_id, answers, time.monotonic(), failed=failed, rss=rss
            )
        )
        if not self.scheduler.can_skip_dispatch:
            self.dispatch_soon()

    def worker_ended(self, worker_id: int, how: str, *, begun: int) -> None:
        """See `Events`."""
        self.workers.pop(worker_id, None)
        if self.scheduler.workers.is_needed(worker_id):
            _log.warning("worker %d %s", worker_id, how)
        self._perform(self.scheduler.died(worker_id, how, time.monotonic(), begun=begun))
        self.dispatch_soon()
        self._resolve_first()

    # Dispatching.

    def _dispatch(self) -> None:
        self._is_dispatch_due = False
        self._perform(self.scheduler.dispatch(time.monotonic()))
        next_at = self.scheduler.next_at()
        if next_at < self._timer_at:
            self._cancel_timer()
            self._timer_at = next_at
            self._timer = self.loop.call_later(max(0.0, next_at - time.monotonic()), self._on_timer)
        if self.scheduler.ended and not self._ended.done():
            self._cancel_timer()
            self._resolve_first()
            self._ended.set_result(None)

    def _on_timer(self) -> None:
        self._cancel_timer()
        self._dispatch()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._timer_at = math.inf

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Answer):
                action.task.deliver(action.answer)
            elif isinstance(action, Start):
                self._start(action.worker_id)
            elif (worker := self.workers.get(action.worker_id)) is None:
                pass  # it could not be started, and `worker_ended` is scheduled
            elif isinstance(action, Send):
                worker.send(action.batch_id, action.batch[0].function, action.payloads)
            elif isinstance(action, Stop):
                worker.stop()
            elif isinstance(action, Hold):
                worker.hold()
            elif isinstance(action, Reclaim):
                batch_id = self.scheduler.workers.all[action.worker_id].batch_id
                self._perform(self.scheduler.held(action.worker_id, batch_id, worker.begun))
                self.dispatch_soon()
            else:
                worker.kill()

    def _start(self, worker_id: int) -> None:
        try:
            self.workers[worker_id] = self._start_worker(worker_id, self)
        except (
            OSError,
            RuntimeError,
        ) as error:  # a shortage of processes, threads or descriptors; the scheduler tries again
            how = f"could not be started: {error}"
            self.loop.call_soon(functools.partial(self.worker_ended, worker_id, how, begun=0))

    def _resolve_first(self) -> None:
        if not self._first_worker.done():
            self._first_worker.set_result(None)
