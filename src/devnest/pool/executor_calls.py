"""The calls of a `PoolExecutor`: their futures, and the event loop on which they run."""

import asyncio
import contextlib
import contextvars
import functools
import threading
import types
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from devnest.pool.calls import open_answer
from devnest.pool.chunks import call as call_pickled
from devnest.pool.client import RemotePool
from devnest.pool.core.tasks import Task, TaskState
from devnest.pool.pool import Pool

__all__ = ["Call", "Calls", "PoolThread"]

# Arguments of `run` itself. A function's keyword argument of such a name is sent another way.
RUN_OPTIONS = {"timeout", "deadline", "priority", "key"}
NO_OPTIONS: Mapping[str, Any] = types.MappingProxyType({})


class Call(Future[Any]):
    """The future of a call; cancelling it also stops work that runs.

    The base class refuses to cancel a running call, so the state of this one stays "pending" until
    the answer is there.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> None:
        super().__init__()
        self.options = options  # of `Pool.run`
        self.context = contextvars.copy_context()  # whose variables may travel
        self.calls: Calls | None = None  # set when the pool's event loop is there
        self.work: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None
        self.work = func, args, kwargs  # until it begins
        self.task: Task | None = None  # only in a pool of this process, until it is answered

    def cancel(self) -> bool:
        """Cancel the call unless it is answered; a worker that runs it is killed.

        Returns:
            Whether the call is cancelled.
        """
        if not super().cancel():
            return False
        if self.calls is not None:  # else `begin` will see it
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                self.calls.loop.call_soon_threadsafe(self.calls.drop, self)
        return True

    def running(self) -> bool:
        """Whether a worker has the call; always false in a pool of another process."""
        task = self.task
        return task is not None and task.state is TaskState.RUNNING and not self.done()


class Calls:
    """The open calls of an executor; its methods run on the event loop of the pool."""

    def __init__(self, pool: Pool | RemotePool, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.submitted = self.answered = 0  # calls; the executor counts the first
        self._pool = pool
        self._stops: dict[Call, Callable[[], object]] = {}  # open calls, and how each is stopped
        self._waiting: list[Call] | None = []  # calls from before the pool started
        self._error: BaseException | None = None
        self._when_done: list[Callable[[], object]] = []  # of each `shutdown` that waits

    def is_here(self) -> bool:
        """Whether the caller runs on the event loop of the pool."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:  # no event loop runs in this thread
            return False

    def open(self) -> None:
        """Begin the calls that came before the pool was started."""
        waiting, self._waiting = self._waiting or [], None
        for call in waiting:
            self._start(call)

    def fail(self, error: BaseException) -> None:
        """Answer all calls, and those to come, by an error."""
        self._waiting, self._error = None, error
        for call in list(self._stops):
            self._settle(call, error=error)

    def begin(self, call: Call) -> None:
        """Begin a call, or let it wait for the start of the pool."""
        self._stops[call] = int  # nothing to stop yet
        if call.cancelled():
            self.drop(call)
        elif self._waiting is not None:
            self._waiting.append(call)
        else:
            self._start(call)

    def drop(self, call: Call) -> None:
        """Stop the work of a call that was cancelled."""
        stop = self._stops.pop(call, None)
        if stop is not None:
            call.work = call.task = None
            self.answered += 1
            call.set_running_or_notify_cancel()  # wakes those who wait for it
            stop()
            self._check_done()

    def finish(self, *, cancel: bool, when_done: Callable[[], object]) -> None:
        """Call `when_done` when no call is open; cancel the waiting ones first if asked to."""
        if cancel:  # later in this iteration, when idle workers have taken what they can
            self.loop.call_soon(self._cancel_waiting, when_done)
        else:
            self._when_done.append(when_done)
            self._check_done()

    def _cancel_waiting(self, when_done: Callable[[], object]) -> None:
        for call in list(self._stops):
            if not call.running():
                call.cancel()
        self._when_done.append(when_done)
        self._check_done()

    def _start(self, call: Call) -> None:
        if call not in self._stops or call.work is None:
            return
        (func, args, kwargs), call.work = call.work, None
        try:
            if self._error is not None:
                raise self._error
            if isinstance(self._pool, Pool):
                answer = functools.partial(self._answered, call)
                task = call.context.run(self._pool.task, func, args, kwargs, answer, **call.options)
                engine = self._pool.engine()
                call.task, self._stops[call] = task, functools.partial(engine.cancel, task)
                engine.submit(task)
                return
            if not RUN_OPTIONS.isdisjoint(kwargs):
                func, args, kwargs = call_pickled, (func, args, kwargs), {}
            running = self.loop.create_task(
                self._pool.run(func, *args, **call.options, **kwargs), context=call.context
            )
            self._stops[call] = running.cancel
            running.add_done_callback(functools.partial(self._ran, call))
        except BaseException as error:
            self._settle(call, error=error)

    def _answered(self, call: Call, answer: object) -> None:
        try:
            result = open_answer(answer)
        except Exception as error:
            self._settle(call, error=error)
        else:
            self._settle(call, result)

    def _ran(self, call: Call, running: "asyncio.Task[Any]") -> None:
        if running.cancelled():
            call.cancel()
        elif (error := running.exception()) is not None:
            self._settle(call, error=error)
        else:
            self._settle(call, running.result())

    def _settle(
        self, call: Call, result: Any = None, *, error: BaseException | None = None
    ) -> None:
        if self._stops.pop(call, None) is None:
            return
        call.work = call.task = None
        self.answered += 1
        if call.set_running_or_notify_cancel():  # false: cancelled a moment ago
            if error is None:
                call.set_result(result)
            else:
                call.set_exception(error)
        self._check_done()

    def _check_done(self) -> None:
        while self._when_done and not self._stops:
            self._when_done.pop()()


class PoolThread:
    """A daemon thread with an event loop, on which an executor's own pool lives.

    Args:
        pool: A pool that is not started.
        lock: The executor's lock, which guards `is_over`.
        ended: Called in the thread at its end.
    """

    def __init__(
        self,
        pool: Pool | RemotePool,
        lock: threading.RLock,
        ended: Callable[["PoolThread"], object],
    ) -> None:
        self.is_over = False  # its event loop takes no more calls
        self._pool = pool
        self._lock = lock
        self._ended = ended
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Future[None] = self._loop.create_future()
        self.calls = Calls(pool, self._loop)
        self._thread = threading.Thread(
            target=self._main, name="devnest.pool-executor", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self, *, cancel: bool = False) -> None:
        """Let the thread end when all calls are answered; may be called from anywhere."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(
                functools.partial(self.calls.finish, cancel=cancel, when_done=self._end)
            )

    def join(self) -> None:
        """Wait for the end of the thread; in the thread itself, do nothing."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _end(self) -> None:
        if not self._stop.done():
            self._stop.set_result(None)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            with self._lock:
                self.is_over = True
            self._loop.run_until_complete(asyncio.sleep(0))  # answer calls that just came
            self._loop.close()
            self._ended(self)

    async def _serve(self) -> None:
        try:
            async with self._pool:
                self.calls.open()
                await self._stop
        except Exception as error:  # the pool could not be started
            self.calls.fail(error)
