"""The pool in the caller's own process."""

import asyncio
import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from devnest.pool.cpus import usable_cpus
from devnest.pool.engine import Engine, WorkerHandle
from devnest.pool.errors import (
    InvalidTask,
    NotPicklable,
    PoolClosed,
    PoolError,
    WorkerCrashed,
    WorkerTraceback,
    told,
)
from devnest.pool.functions import Function, describe
from devnest.pool.payload import Packed, pack_call, unpack
from devnest.pool.process import HAS_BOARD, Events, ProcessWorker, boot_frame
from devnest.pool.records import Limits
from devnest.pool.stats import Stats
from devnest.pool.tasks import Task, check_options, seconds
from devnest.pool.thread import Outcome, ThreadWorker
from devnest.pool.worker import MAIN_NAME, OK, is_loading_main

if TYPE_CHECKING:
    from devnest.pool.client import RemotePool

__all__ = ["Pool", "open_answer", "pack_arguments"]

# An exception may be of these and an ordinary one at once. An event loop ends at the first two.
_ENDS_THE_CALLER = (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)
WARM_FUNCTIONS = 64  # that a replacement imports before it says it is ready


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
        least, most = _sizes(workers, min_workers, max_workers)
        self._is_process = kind == "process"
        self._nice = nice
        self._limits = Limits(
            least,
            most,
            max_queue,
            idle_timeout,
            max_tasks,
            max_age,
            max_rss,
            boot_timeout,
            can_kill=self._is_process,
            can_ride=self._is_process and HAS_BOARD,
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
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(force=kind is not None)

    async def start(self) -> None:
        """Start the workers and wait for the first; ``async with`` does it."""
        if self._engine is not None:
            raise PoolClosed("a pool starts once")
        if is_loading_main():
            raise InvalidTask("the main script starts a pool when it is imported; guard it by `if __name__ == ...`")
        if self._is_process:
            sys.modules.setdefault(MAIN_NAME, sys.modules["__main__"])  # where workers say the script's classes are
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
        self, workers: int | None = None, *, min_workers: int | None = None, max_workers: int | None = None
    ) -> None:
        """Have more or fewer workers from now on; those too many go when they are idle."""
        least, most = _sizes(workers, min_workers, max_workers)
        self._limits = dataclasses.replace(self._limits, min_workers=least, max_workers=most)
        self.engine().resize(self._limits)

    def engine(self) -> Engine:
        """Return the running engine; for the pool server."""
        if self._engine is None:
            raise PoolClosed("the pool has not been started; use `async with`")
        return self._engine

    def _describe(self, func: Callable[..., Any]) -> Function:
        function = describe(func, importable=self._is_process)
        if self._is_process:  # importable, so it lives as long as its module; anything else is not kept
            self._functions[func] = function
            self.warm(function.name)
        return function

    def warm(self, name: str) -> None:
        """Have workers that start from now on import a function before they say they are ready."""
        if name not in self._warm:
            if len(self._warm) >= WARM_FUNCTIONS:
                del self._warm[next(iter(self._warm))]
            self._warm[name] = None

    def _start_worker(self, worker_id: int, events: Events) -> WorkerHandle:
        loop = asyncio.get_running_loop()
        if not self._is_process:
            return ThreadWorker(loop, worker_id, events)
        boot = boot_frame(nice=self._nice, names=list(self._warm))
        return ProcessWorker(loop, worker_id, boot, events, max_rss=self._limits.max_rss is not None)


def pack_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
    """Pickle a call's arguments; raises :class:`InvalidTask` where that fails."""
    try:
        return pack_call(args, kwargs)
    except Exception as error:
        raise InvalidTask(f"the arguments cannot be pickled: {told(error)}") from error


def open_answer(answer: object) -> Any:
    """Return a task's result, or raise its exception or the pool's error."""
    if isinstance(answer, PoolError):
        raise answer
    if isinstance(answer, Outcome):
        if answer.error is None:
            return answer.value
        harmless = _harmless(answer.error)
        if harmless is answer.error:
            raise harmless
        raise harmless from answer.error
    tag, packed = cast(tuple[int, Packed], answer)
    try:
        content = unpack(packed)
    except BaseException as error:  # whatever it is, it is the answer's
        cause = error if issubclass(type(error), Exception) else None
        raise NotPicklable(f"the answer could not be unpickled: {told(error)}") from cause
    if tag == OK:
        return content
    raised, text = content if type(content) is tuple and len(content) == 2 else (None, None)
    if not issubclass(type(raised), BaseException) or type(text) is not str:
        raise NotPicklable(f"the answer of a task that failed is {told(content)}")
    raise _harmless(cast(BaseException, raised)) from WorkerTraceback(text)


def _harmless(error: BaseException) -> Exception:
    """Return a task's exception, or what stands for one that would end or cancel its caller.

    Its type is asked: an object may say of itself what it likes.
    """
    kind = type(error)
    if issubclass(kind, Exception) and not issubclass(kind, _ENDS_THE_CALLER):
        return cast(Exception, error)
    return WorkerCrashed(f"the task raised {told(error)}")


def _resolve(future: "asyncio.Future[Any]", answer: object) -> None:
    if not future.done():  # cancelled in this very turn
        future.set_result(answer)


def _sizes(workers: int | None, min_workers: int | None, max_workers: int | None) -> tuple[int, int]:
    if workers is not None:
        if min_workers is not None or max_workers is not None:
            raise InvalidTask("give workers, or min_workers and max_workers")
        return workers, workers
    most = max_workers if max_workers is not None else max(usable_cpus(), min_workers or 0)
    return (min_workers if min_workers is not None else most), most
