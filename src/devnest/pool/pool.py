"""`Pool`: a pool whose workers belong to the caller's process."""

import asyncio
import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from devnest.pool.calls import open_answer, pack_arguments
from devnest.pool.context import Context, run_with
from devnest.pool.core.limits import Limits
from devnest.pool.core.stats import Stats
from devnest.pool.core.tasks import Task, check_options, seconds
from devnest.pool.errors import FORKED, NOT_OPEN, OTHER_LOOP, InvalidTask, PoolClosed
from devnest.pool.functions import MAIN_NAME, Function, describe, is_loading_main, main_source
from devnest.pool.runtime.cpus import usable_cpus
from devnest.pool.runtime.engine import Engine, WorkerHandle
from devnest.pool.runtime.process import HAS_PROGRESS, Events, ProcessWorker, boot_frame
from devnest.pool.runtime.thread import ThreadWorker
from devnest.pool.siblings import MIN_CALLS, warn_of_siblings

if TYPE_CHECKING:
    from devnest.pool.client import RemotePool

__all__ = ["Pool"]

# Functions that a replacement imports before it is ready. More would delay it; the oldest is
# dropped.
MAX_WARM_FUNCTIONS = 64


class Pool:
    """A pool of worker processes, or threads, for one event loop.

    Use it as an asynchronous context manager. The block is entered when the first worker is ready.
    When the block ends normally, the pool waits for all tasks. When it ends by an exception, the
    tasks fail and their workers are killed.

    For example::

        async with Pool(workers=4) as pool:
            result = await pool.run(func, argument, deadline=5.0)

    Args:
        workers: The number of workers; the default is what `usable_cpus` returns.
        min_workers: Instead of `workers`: the number of workers that stay when there is no work.
            The default is `max_workers`.
        max_workers: Instead of `workers`: the number of workers while tasks wait. The default is as
            for `workers`, and not less than `min_workers`.
        kind: `"process"`, or `"thread"` for functions that release the interpreter lock. Threads
            cannot be killed: a function that exceeds its `timeout` goes on running.
        max_queue: The most tasks that wait for a worker. Beyond it a call raises `PoolFull`: the
            new one, or the newest of the key that has the most waiting tasks.
        idle_timeout: Seconds after which an idle worker beyond `min_workers` ends.
        max_tasks: Replace a worker after this many tasks.
        max_age: Replace a worker after this many seconds.
        max_rss: Replace a worker whose resident memory exceeds this many bytes. This limit and the
            two before it are lowered by up to 20 %, drawn for each worker. A worker ends only when
            its replacement is ready.
        nice: The number by which the nice value of the workers is raised, which lowers their CPU
            priority.
        boot_timeout: Seconds within which a worker must become ready, or it is killed.
        worker_output: What becomes of the text that worker processes write to standard output and
            error. It is discarded with `"discard"`, and goes where that of this process goes with
            `"inherit"`. With `"log"`, its lines go to the logger `devnest.pool.worker` of this
            process: standard output at level INFO, standard error at level WARNING. Of a line,
            2000 bytes are logged, and of a worker, 100 lines in a second.
        context: ContextVars whose values travel with each call that is not batched, by the names
            `module:name`, such as `["service.tracing:traceparent"]`. The function runs in a context
            that has them alone.

    Raises:
        InvalidTask: An option is out of its range, or options contradict each other.
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
        worker_output: Literal["discard", "inherit", "log"] = "discard",
        context: Sequence[str] = (),
    ) -> None:
        if worker_output not in ("discard", "inherit", "log"):
            raise InvalidTask(
                f"worker_output must be 'discard', 'inherit' or 'log', not {worker_output!r}"
            )
        if kind == "thread" and worker_output != "discard":
            raise InvalidTask("worker_output is for processes")
        if kind not in ("process", "thread"):
            raise InvalidTask(f"kind must be 'process' or 'thread', not {kind!r}")
        if kind == "thread" and (nice or max_rss is not None):
            raise InvalidTask("nice and max_rss are for processes")
        minimum, maximum = _sizes(workers, min_workers, max_workers)
        self.kind = kind
        self._is_process = kind == "process"
        self._nice = nice
        self._worker_output = worker_output
        self._context = Context(context)
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
        main_source()  # known from now on, also when the script ends before a worker starts
        self._batched_calls = 0
        self._looks_at_batches = self._is_process  # once
        self._engine: Engine | None = None
        self._pid = 0  # of the process that started the pool
        self._functions: dict[Callable[..., Any], Function] = {}
        self._warm: dict[str, None] = {}

    @staticmethod
    def connect(
        url: str,
        *,
        patience: float = 10.0,
        context: Sequence[str] = (),
        record_times: Callable[[float, float], None] | None = None,
    ) -> "RemotePool":
        """Return a pool that runs everything in a shared pool on this machine.

        Args:
            url: The address of the shared pool's socket, `unix:///path/to/socket`.
            patience: Seconds that calls wait for a server while none answers.
            context: As for `Pool`.
            record_times: Called in the context of each `run` that a worker has answered, before it
                returns: with the seconds that the call waited in the queue, and the seconds that
                the worker had it, with the other calls of its batch. It must not raise.

        Returns:
            A `RemotePool`, to be used as an asynchronous context manager.

        Raises:
            InvalidTask: The address or an option is invalid.
        """
        from devnest.pool.client import RemotePool

        return RemotePool(url, patience=patience, context=context, record_times=record_times)

    @staticmethod
    def shared(
        path: str | os.PathLike[str] | None = None,
        *,
        workers: int | None = None,
        nice: int = 0,
        patience: float = 10.0,
        context: Sequence[str] = (),
    ) -> "RemotePool":
        """Return a pool that all processes of a program share, without any set-up.

        The first process that enters it starts a server, and the others connect to that. Who finds
        the server gone, because it was killed or stopped, starts it again. It ends 10 seconds after
        its last client has left.

        Call it in each process, after a fork.

        Args:
            path: The server's socket; programs that give the same path share a pool. By default,
                the processes of this user share one whose Python environment and import path are
                the same.
            workers: As for `Pool`, for the server that this process may start.
            nice: As for `Pool`, likewise.
            patience: Seconds that calls wait for a server while none answers.
            context: As for `Pool`.

        Returns:
            A `RemotePool`, to be used as an asynchronous context manager.

        Raises:
            InvalidTask: The path is too long, or an option is invalid.
        """
        from devnest.pool.client import RemotePool
        from devnest.pool.launcher import Launcher, default_path

        socket_path = Path(path if path is not None else default_path()).absolute()
        launcher = functools.partial(Launcher, socket_path, workers=workers, nice=nice)
        return RemotePool(
            f"unix://{socket_path}", patience=patience, make_launcher=launcher, context=context
        )

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
        """Start the workers and wait until the first one is ready; `async with` does the same.

        If that worker fails to start, `start` returns all the same. The pool tries again, and calls
        raise `WorkerCrashed` if no worker has started for 5 seconds.

        Raises:
            PoolClosed: The pool has been started before.
            InvalidTask: A worker runs the main script, which starts a pool when it is imported.
        """
        if self._engine is not None:
            raise PoolClosed("a pool starts once")
        if is_loading_main():
            raise InvalidTask(
                "the main script starts a pool when it is imported; "
                "guard it by `if __name__ == ...`"
            )
        if self._is_process:
            # The module under which workers pickle the classes of the script.
            sys.modules.setdefault(MAIN_NAME, sys.modules["__main__"])
        self._pid = os.getpid()
        self._engine = Engine(asyncio.get_running_loop(), self._limits, self._start_worker)
        try:
            await self._engine.start()
        except BaseException:  # the block is not entered, so `__aexit__` will not end the workers
            await self._engine.close(force=True, deadline=None)
            raise

    async def close(self, *, force: bool = False, deadline: float | None = None) -> None:
        """Accept no more tasks, wait for the present ones, and end the workers.

        Cancelling `close` has the effect of `force`; it raises `CancelledError` when all workers
        have ended.

        Args:
            force: Do not wait: tasks without an answer raise `PoolClosed` and their workers are
                killed.
            deadline: Seconds after which `close` goes on as with `force`; `None` for no limit.
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
        """Run `func(*args, **kwargs)` in a worker and return its result.

        If `run` is cancelled while the call waits, the call leaves the queue. If the call is
        running, its worker is killed, unless other callers wait for calls of the same batch, or the
        batch will probably finish before a replacement could start. Then only the result is
        dropped.

        Args:
            func: A function that a worker can import by its module and qualified name, or any
                callable for threads. One marked with `batched` takes positional arguments only.
            *args: Its positional arguments, which are pickled.
            timeout: Seconds that it may run before its worker is killed; `None` for no limit.
            deadline: Seconds from now until the answer is due; `None` for no limit. A call that
                would miss its deadline is not begun.
            priority: -100 to 100; lower numbers go first. Waiting for a second counts as one less.
            key: Whom the call is for, such as a client's address; at most 255 characters. Keys take
                turns, so a key with many calls does not delay the others.
            **kwargs: Its keyword arguments, which are pickled.

        Returns:
            The result of the function.

        Raises:
            PoolFull: The queue is full, or the call would probably miss its deadline.
            TaskTimeout: The call ran longer than `timeout`.
            DeadlineExceeded: The call was not answered by its `deadline`.
            WorkerCrashed: The worker died, or no worker could be started.
            PoolClosed: The pool is closed or was not started.
            InvalidTask: The function, an argument or an option is invalid.
            NotPicklable: The result or the exception cannot be pickled.
            Exception: What the function raised, with a `WorkerTraceback` as its cause.
        """
        engine = self.engine()
        if asyncio.get_running_loop() is not engine.loop:
            raise PoolClosed(OTHER_LOOP)
        future: asyncio.Future[Any] = engine.loop.create_future()
        task = self.task(
            func,
            args,
            kwargs,
            functools.partial(_resolve, future),
            timeout=timeout,
            deadline=deadline,
            priority=priority,
            key=key,
        )
        engine.submit(task)
        try:
            answer = await future
        except asyncio.CancelledError:
            engine.cancel(task)
            raise
        return open_answer(answer)

    def stats(self) -> Stats:
        """Return the statistics of the pool.

        Raises:
            PoolClosed: The pool was not started.
        """
        return self.engine().stats()

    def resize(
        self,
        workers: int | None = None,
        *,
        min_workers: int | None = None,
        max_workers: int | None = None,
    ) -> None:
        """Change the number of workers; surplus ones end when they are idle.

        Args:
            workers: As for `Pool`.
            min_workers: As for `Pool`.
            max_workers: As for `Pool`.

        Raises:
            InvalidTask: The numbers are invalid.
            PoolClosed: The pool was not started.
        """
        minimum, maximum = _sizes(workers, min_workers, max_workers)
        self._limits = dataclasses.replace(self._limits, min_workers=minimum, max_workers=maximum)
        self.engine().resize(self._limits)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop on which the pool was started, or `None`."""
        return self._engine.loop if self._engine else None

    def task(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        answer: Callable[[object], None],
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        priority: int = 0,
        key: str | None = None,
    ) -> Task:
        """Return a call for the engine, whose answer goes to `answer`; for `PoolExecutor` too."""
        timeout_s, deadline_s = seconds("timeout", timeout), seconds("deadline", deadline)
        check_options(timeout_s, priority, key)
        function = self._functions.get(func) or self._describe(func)
        if function.max_size:
            if kwargs:
                raise InvalidTask("a batched function takes positional arguments only")
            self._batched_calls += 1
            if self._batched_calls % MIN_CALLS == 0 and self._looks_at_batches:
                self._look_at_batches()
        values = self._context.values() if self._context and not function.max_size else None
        payload: object
        if self._is_process:
            payload = pack_arguments(args, kwargs, values)
        else:
            payload = (
                (run_with, (values, func, args, kwargs), {}) if values else (func, args, kwargs)
            )
        return Task(
            function,
            payload,
            answer,
            priority=priority,
            key=key or "",
            timeout_s=timeout_s,
            deadline_at=time.monotonic() + deadline_s,
        )

    def _look_at_batches(self) -> None:
        """Warn of sibling pools if batches are small; wait for the next time if few calls ran."""
        stats = self.stats()
        if stats.done >= MIN_CALLS // 2:
            self._looks_at_batches = False
            self.engine().loop.run_in_executor(None, warn_of_siblings, stats.mean_batch)

    def engine(self) -> Engine:
        """Return the running engine, for `PoolServer`."""
        if self._engine is None:
            raise PoolClosed(NOT_OPEN)
        if self._pid != os.getpid():
            raise PoolClosed(FORKED)
        return self._engine

    def _describe(self, func: Callable[..., Any]) -> Function:
        function = describe(func, importable=self._is_process)
        if self._is_process:  # importable, so it lives as long as its module; others are not kept
            self._functions[func] = function
            self.warm(function.name)
        return function

    def warm(self, name: str) -> None:
        """Let future workers import a function before they are ready."""
        if name not in self._warm:
            if len(self._warm) >= MAX_WARM_FUNCTIONS:
                del self._warm[next(iter(self._warm))]
            self._warm[name] = None

    def _start_worker(self, worker_id: int, events: Events) -> WorkerHandle:
        loop = asyncio.get_running_loop()
        if not self._is_process:
            return ThreadWorker(loop, worker_id, events)
        boot = boot_frame(
            nice=self._nice,
            names=list(self._warm),
            line_buffering=self._worker_output != "discard",
        )
        return ProcessWorker(
            loop,
            worker_id,
            boot,
            events,
            max_rss=self._limits.max_rss is not None,
            output=self._worker_output,
        )


def _resolve(future: "asyncio.Future[Any]", answer: object) -> None:
    if not future.done():  # it may have been cancelled in this event loop iteration
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
