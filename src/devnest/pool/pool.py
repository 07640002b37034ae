"""The pool in the caller's own process."""

import asyncio
import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from devnest.pool.calls import open_answer, pack_arguments
from devnest.pool.core.limits import Limits
from devnest.pool.core.stats import Stats
from devnest.pool.core.tasks import Task, check_options, seconds
from devnest.pool.errors import InvalidTask, PoolClosed
from devnest.pool.functions import MAIN_NAME, Function, describe, is_loading_main
from devnest.pool.runtime.cpus import usable_cpus
from devnest.pool.runtime.engine import Engine, WorkerHandle
from devnest.pool.runtime.process import HAS_PROGRESS, Events, ProcessWorker, boot_frame
from devnest.pool.runtime.thread import ThreadWorker

if TYPE_CHECKING:
    from devnest.pool.client import RemotePool

__all__ = ["Pool"]

MAX_WARM_FUNCTIONS = 64  # that a replacement imports before it says it is ready


class Pool:
    """Runs functions in worker processes, or threads, of this process.

    ``async with Pool(workers=4) as pool: y = await pool.run(func, x)``. The block is entered when the first
    worker is ready; on a normal exit it waits for the tasks there are, on an exit by exception it ends them.

    ``workers``, or ``min_workers`` and ``max_workers``: processes; the default is the CPUs this process may
    use. ``kind``: ``"process"``, or ``"thread"`` for functions that release the interpreter lock; those
    cannot be killed. ``max_queue``: waiting tasks, past which ``run`` raises :class:`PoolFull`.
    ``idle_timeout``: seconds before a worker beyond ``min_workers`` goes. ``max_tasks``, ``max_age`` (s),
    ``max_rss`` (bytes): a worker past one of them (less up to 20 %, drawn for each) is replaced, once its
    replacement is ready. ``nice``: lowers the workers' CPU priority by so much. ``boot_timeout``: seconds a
    worker may take to be ready.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        min_workers: int | None = None,
        max_workers: int | None = None,
        kind: Literal["process", "thread"] = "process",
        max_queue: int = 1000,
        idle_timeout: float = 10.0,
        max_tasks: int | None = None,
        max_age: float | None = None,
        max_rss: int | None = None,
        nice: int = 0,
        boot_timeout: float = 60.0,
    ) -> None:
        if kind not in ("process", "thread"):
            raise InvalidTask(f"kind must be 'process' or 'thread', not {kind!r}")
        if kind == "thread" and (nice or max_rss is not None):
            raise InvalidTask("nice and max_rss are for processes")
        minimum, maximum = _sizes(workers, min_workers, max_workers)
        self._is_process = kind == "process"
        self._nice = nice
        self._limits = Limits(
            minimum,
            maximum,
            max_queue,
            idle_timeout,
            max_tasks,
            max_age,
            max_rss,
            boot_timeout,
            can_kill=self._is_process,
            can_coalesce=self._is_process and HAS_PROGRESS,
        )
        self._engine: Engine | None = None
        self._functions: dict[Callable[..., Any], Function] = {}
        self._warm: dict[str, None] = {}

    @staticmethod
    def connect(url: str, *, patience: float = 10.0) -> "RemotePool":
        """Return a pool that runs everything in the machine's shared one, at ``unix:///path/to/socket``.

        ``patience``: seconds that calls wait for a server that is away.
        """
        from devnest.pool.client import RemotePool

        return RemotePool(url, patience=patience)

    def __repr__(self) -> str:
        return f"<Pool {self._engine.scheduler if self._engine else 'not started'}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(force=kind is not None)

    async def start(self) -> None:
        """Start the workers and wait for the first; ``async with`` does it."""
        if self._engine is not None:
            raise PoolClosed("a pool starts once")
        if is_loading_main():
            raise InvalidTask(
                "the main script starts a pool when it is imported; guard it by `if __name__ == ...`"
            )
        if self._is_process:
            sys.modules.setdefault(
                MAIN_NAME, sys.modules["__main__"]
            )  # where workers say the script's classes are
        self._engine = Engine(asyncio.get_running_loop(), self._limits, self._start_worker)
        try:
            await self._engine.start()
        except BaseException:  # the block is not entered, so nobody else would end the workers
            await self._engine.close(force=True, deadline=None)
            raise

    async def close(self, *, force: bool = False, deadline: float | None = None) -> None:
        """Take no more tasks, wait for those there are and end the workers.

        With ``force``, or when ``deadline`` seconds have passed, tasks not done are answered with
        :class:`PoolClosed` and their workers killed. Cancelling it forces it too.
        """
        if self._engine is not None:
            await self._engine.close(force=force, deadline=deadline)

    async def run(
        self,
        func: Callable[..., Any],
        /,
        *args: Any,
        timeout: float | None = None,
        deadline: float | None = None,
        priority: int = 0,
        key: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run ``func(*args, **kwargs)`` in a worker and return its result.

        ``timeout``: seconds it may run before its worker is killed. ``deadline``: seconds from now to the
        answer; work past it is not begun. ``priority``: -100 to 100, lower goes first. ``key``: whose call it
        is; keys take turns. Raises what ``func`` raised, or a :class:`PoolError`. Cancelling takes a waiting
        call out of the queue, and kills the worker of a running one unless others share its batch.
        """
        engine = self.engine()
        timeout_s, deadline_s = seconds("timeout", timeout), seconds("deadline", deadline)
        check_options(timeout_s, priority, key)
        function = self._functions.get(func) or self._describe(func)
        if function.max_size and kwargs:
            raise InvalidTask("a batched function takes positional arguments only")
        loop = engine.loop
        future: asyncio.Future[Any] = loop.create_future()
        task = Task(
            function,
            pack_arguments(args, kwargs) if self._is_process else (func, args, kwargs),
            functools.partial(_resolve, future),
            priority=priority,
            key=key or "",
            timeout_s=timeout_s,
            deadline_at=time.monotonic() + deadline_s,
        )
        engine.submit(task)
        try:
            answer = await future
        except asyncio.CancelledError:
            engine.cancel(task)
            raise
        return open_answer(answer)

    def stats(self) -> Stats:
        """Return what the pool has done and is doing."""
        return self.engine().stats()

    def resize(
        self,
        workers: int | None = None,
        *,
        min_workers: int | None = None,
        max_workers: int | None = None,
    ) -> None:
        """Have more or fewer workers from now on; those too many go when they are idle."""
        minimum, maximum = _sizes(workers, min_workers, max_workers)
        self._limits = dataclasses.replace(self._limits, min_workers=minimum, max_workers=maximum)
        self.engine().resize(self._limits)

    def engine(self) -> Engine:
        """Return the running engine; for the pool server."""
        if self._engine is None:
            raise PoolClosed("the pool has not been started; use `async with`")
        return self._engine

    def _describe(self, func: Callable[..., Any]) -> Function:
        function = describe(func, importable=self._is_process)
        if (
            self._is_process
        ):  # importable, so it lives as long as its module; anything else is not kept
            self._functions[func] = function
            self.warm(function.name)
        return function

    def warm(self, name: str) -> None:
        """Have workers that start from now on import a function before they say they are ready."""
        if name not in self._warm:
            if len(self._warm) >= MAX_WARM_FUNCTIONS:
                del self._warm[next(iter(self._warm))]
            self._warm[name] = None

    def _start_worker(self, worker_id: int, events: Events) -> WorkerHandle:
        loop = asyncio.get_running_loop()
        if not self._is_process:
            return ThreadWorker(loop, worker_id, events)
        boot = boot_frame(nice=self._nice, names=list(self._warm))
        return ProcessWorker(
            loop, worker_id, boot, events, max_rss=self._limits.max_rss is not None
        )


def _resolve(future: "asyncio.Future[Any]", answer: object) -> None:
    if not future.done():  # cancelled in this very turn
        future.set_result(answer)


def _sizes(
    workers: int | None, min_workers: int | None, max_workers: int | None
) -> tuple[int, int]:
    if workers is not None:
        if min_workers is not None or max_workers is not None:
            raise InvalidTask("give workers, or min_workers and max_workers")
        return workers, workers
    maximum = max_workers if max_workers is not None else max(usable_cpus(), min_workers or 0)
    return (min_workers if min_workers is not None else maximum), maximum
