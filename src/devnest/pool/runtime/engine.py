"""Puts the scheduler's decisions into effect on an event loop: workers, timers, answers."""

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
    """A worker of either kind."""

    def send(self, batch_id: int, function: Function, payloads: Sequence[object]) -> None:
        """Send a batch."""

    def stop(self) -> None:
        """Let it leave."""

    def kill(self) -> None:
        """End it."""

    def hold(self) -> None:
        """Let it begin no further call of its batch."""

    @property
    def begun(self) -> int:
        """The index of the newest call of its batch that it has begun."""


class Engine:
    """The scheduler, its workers and its clock. Everything happens on one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        start_worker: Callable[[int, Events], WorkerHandle],
    ) -> None:
        self.loop = loop
        # Not loop.time(): uvloop's moves in whole milliseconds.
        self.scheduler = Scheduler(limits, time.monotonic())
        self.workers: dict[int, WorkerHandle] = {}
        self._start_worker = start_worker
        self._is_dispatch_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._first_worker: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()

    def submit(self, task: Task) -> None:
        """Take a task in, or raise the pool's error at once; ``task.answer`` is called later."""
        self._perform(self.scheduler.submit(task, time.monotonic()))
        self.dispatch_soon()

    def cancel(self, task: Task) -> None:
        """Drop a task; it is not answered."""
        self._perform(self.scheduler.cancel(task))
        self.dispatch_soon()

    def orphan(self, task: Task) -> None:
        """Drop a task whose client has gone."""
        self._perform(self.scheduler.orphan(task, time.monotonic()))
        self.dispatch_soon()

    def resize(self, limits: Limits) -> None:
        """Go on with other limits."""
        self._perform(self.scheduler.resize(limits))
        self.dispatch_soon()

    def stats(self) -> Stats:
        """Return the present reading."""
        return self.scheduler.stats(time.monotonic())

    async def start(self) -> None:
        """Start the least number of workers, and wait for the first of them to be ready or to fail."""
        self.dispatch_soon()
        if self.scheduler.workers.limits.min_workers:
            await asyncio.shield(self._first_worker)

    async def close(self, *, force: bool, deadline: float | None) -> None:
        """Take no more tasks, wait for those there are at most ``deadline`` seconds, end all workers."""
        self._perform(self.scheduler.close(force=force))
        self.dispatch_soon()
        try:
            async with asyncio.timeout(None if force else deadline):
                await asyncio.shield(self._ended)
        except (TimeoutError, asyncio.CancelledError) as reason:
            # Out of time, or whoever waits wants to be gone: end it now, and still leave nothing behind.
            self._perform(self.scheduler.close(force=True))
            self.dispatch_soon()
            await asyncio.shield(self._ended)
            if isinstance(reason, asyncio.CancelledError):
                raise

    def dispatch_soon(self) -> None:
        """Have the scheduler dispatch when this turn of the loop is over."""
        if not self._is_dispatch_due:
            self._is_dispatch_due = True
            self.loop.call_soon(self._dispatch)

    # What workers tell.

    def worker_ready(self, worker_id: int) -> None:
        """See :class:`Events`."""
        self._perform(self.scheduler.ready(worker_id, time.monotonic()))
        self.dispatch_soon()
        self._resolve_first()

    def worker_done(
        self, worker_id: int, batch_id: int, answers: Sequence[object], *, failed: int, rss: int
    ) -> None:
        """See :class:`Events`."""
        self._perform(
            self.scheduler.done(
                worker_id, batch_id, answers, time.monotonic(), failed=failed, rss=rss
            )
        )
        if not self.scheduler.can_skip_dispatch:
            self.dispatch_soon()

    def worker_ended(self, worker_id: int, how: str, *, begun: int) -> None:
        """See :class:`Events`."""
        self.workers.pop(worker_id, None)
        if self.scheduler.workers.is_needed(worker_id):
            _log.warning("worker %d %s", worker_id, how)
        self._perform(self.scheduler.died(worker_id, how, time.monotonic(), begun=begun))
        self.dispatch_soon()
        self._resolve_first()

    # One turn.

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
                pass  # it could not be started; its end is on the way
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
        ) as error:  # no process, thread or descriptor to be had now; tried again later
            how = f"could not be started: {error}"
            self.loop.call_soon(functools.partial(self.worker_ended, worker_id, how, begun=0))

    def _resolve_first(self) -> None:
        if not self._first_worker.done():
            self._first_worker.set_result(None)
