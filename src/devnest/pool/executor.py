"""`PoolExecutor`: a pool for callers that have no event loop, from any thread."""

import atexit
import collections
import contextlib
import itertools
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, TypeVar

from devnest.pool.chunks import call, call_each
from devnest.pool.client import RemotePool
from devnest.pool.errors import FORKED, DeadlineExceeded, InvalidTask, PoolClosed
from devnest.pool.executor_calls import Call, Calls, PoolThread
from devnest.pool.functions import describe
from devnest.pool.pool import Pool

__all__ = ["PoolExecutor"]

RUN_SLACK_S = 0.5  # `run` waits this much longer than the deadline, so that the pool reports it
P = ParamSpec("P")
T = TypeVar("T")


class PoolExecutor(Executor):
    """A `concurrent.futures.Executor` whose calls run in a pool.

    All methods may be called from any thread, and all but `run` from a signal handler and from a
    future's callback. The pool starts at the first call, on the event loop of a thread of the
    executor's own. A child of `os.fork` gets a new thread and pool at its first call. Only a `Pool`
    that was given and has been started is lost there.

    `Future.cancel` also cancels running calls: the worker is killed and replaced, as when
    `Pool.run` is cancelled. Callbacks of futures run in the thread of the pool's event loop.

    For example::

        with PoolExecutor(4) as executor:
            future = executor.submit(func, argument)
            results = list(executor.map(func, arguments, chunksize=100))

    Args:
        max_workers: The number of workers of the executor's own pool; the default is what
            `usable_cpus` returns. This pool has no limit of waiting calls, and its workers write to
            this process' standard output and error.
        pool: Instead of `max_workers`: the pool to use. If it is not started, the executor starts
            it, and closes it in `shutdown`. If it is started, the calls run on its event loop,
            which goes on after `shutdown`. A blocking wait in the thread of that loop, such as
            `future.result()`, would then never end.
        url: Instead of `max_workers` and `pool`: the address of a shared pool, as for
            `Pool.connect`.

    Raises:
        InvalidTask: An option is invalid, or several of the three are given.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        pool: Pool | RemotePool | None = None,
        url: str | None = None,
    ) -> None:
        if sum(option is not None for option in (max_workers, pool, url)) > 1:
            raise InvalidTask("give max_workers, a pool or a url, and no two of them")
        if max_workers is not None and max_workers < 1:
            raise InvalidTask("max_workers must be greater than 0")
        self._make_pool: Callable[[], Pool | RemotePool]
        if pool is not None:
            self._make_pool = self._next_given
        elif url is not None:
            Pool.connect(url)  # raises if the address is invalid
            self._make_pool = partial(Pool.connect, url)
        else:
            self._make_pool = partial(
                Pool, max_workers, max_queue=sys.maxsize, worker_output="inherit"
            )
        self._given = pool
        self._in_threads = isinstance(pool, Pool) and pool.kind == "thread"
        self._is_remote = not isinstance(pool, Pool) if pool is not None else url is not None
        self._is_shut = self._is_lost = False
        self._calls: Calls | None = None
        self._thread: PoolThread | None = None
        self._finalizer: Any = None
        # A signal handler may submit while the thread that it interrupts submits. While that thread
        # opens the pool, the handler's calls wait here.
        self._lock = threading.RLock()
        self._early: collections.deque[Call] = collections.deque()
        self._is_opening = False
        _executors.add(self)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule `fn(*args, **kwargs)`.

        Args:
            fn: A function that a worker can import by its module and qualified name. Other
                callables that can be pickled will do, such as a bound method or a
                `functools.partial`.
            *args: Its positional arguments, which are pickled.
            **kwargs: Its keyword arguments, which are pickled. `Pool.run` takes some of these names
                as its own options; here all of them reach the function.

        Returns:
            The future of the call. It raises what `Pool.run` raises; an own pool never `PoolFull`.

        Raises:
            RuntimeError: The executor was shut down, or the interpreter is ending.
            InvalidTask: The function cannot run in a worker.
        """
        return self._submit(Call(*self._importable(fn, args, kwargs)))

    def _submit(self, future: Call) -> Call:
        with self._lock:
            self._check_open()
            self._early.append(future)
            if not self._is_opening:
                self._begin_early()
        return future

    def run(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        timeout: float | None = None,
        deadline: float | None = None,
        priority: int = 0,
        key: str | None = None,
    ) -> Any:
        """Run `fn(*args)` with the options of `Pool.run`, and wait for its result.

        If the wait is interrupted, by Ctrl-C for example, the call is cancelled.

        Args:
            fn: As for `submit`.
            *args: Its arguments, which are pickled.
            timeout: Seconds that the call may run.
            deadline: Seconds from now within which the call has to be answered.
            priority: Lower goes first.
            key: Whose call it is; keys take turns.

        Returns:
            The result of the function.

        Raises:
            PoolError: As `Pool.run` does.
            RuntimeError: As for `submit`, and on the event loop of the pool, where the wait would
                never end.
        """
        options = {"timeout": timeout, "deadline": deadline, "priority": priority, "key": key}
        future = Call(*self._importable(fn, args, {}), options)
        self._submit(future)
        if future.calls is not None and future.calls.is_here():
            future.cancel()
            raise RuntimeError("run() on the pool's own event loop would never end")
        # The pool itself keeps to the deadline once it has started.
        wait_s = None if deadline is None else deadline + RUN_SLACK_S
        try:
            return future.result(wait_s)
        except BaseException as error:
            future.cancel()
            if not isinstance(error, TimeoutError):
                raise
            if future.cancelled():
                raise DeadlineExceeded("the pool did not start by the deadline") from None
            return future.result()  # it came at that moment, or raised this error itself

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[T]:
        """Return an iterator over the results of `map(fn, *iterables)`, in the same order.

        All calls are scheduled immediately. If the iterator is closed or times out, the remaining
        calls are cancelled, also those that run.

        Args:
            fn: As for `submit`.
            *iterables: The arguments of the calls.
            timeout: Seconds from now within which each result must be there; `None` for no limit.
            chunksize: The number of calls that are sent to a worker together. One of them that
                raises ends the iterator, without the results of its chunk.
            **options: Further options of the standard library's `Executor.map`.

        Returns:
            An iterator that raises `TimeoutError` when the time is up.

        Raises:
            ValueError: `chunksize` is less than 1.
            RuntimeError: As for `submit`.
            InvalidTask: As for `submit`.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be 1 or more")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout, **options)
        self._importable(fn, (), {})  # raises if it cannot run in a worker
        chunks = _chunks(zip(*iterables, strict=False), chunksize)
        functions = itertools.repeat(fn)
        return _flatten(super().map(call_each, functions, chunks, timeout=timeout, **options))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls, and end the pool when the present ones are answered.

        Args:
            wait: Whether to wait for that. In the thread of the executor's own event loop, that is
                in a future's callback, `shutdown` never waits.
            cancel_futures: Whether to cancel the calls that no worker has yet. In a pool of another
                process these are not known, so all calls without an answer are cancelled.

        Raises:
            RuntimeError: `wait` is given on the event loop of a pool that was given, while calls
                are open. They would never be answered.
        """
        with self._lock:
            self._is_shut = True
            calls, thread = self._calls, self._thread
        if thread is not None:
            thread.finish(cancel=cancel_futures)
            if wait:
                thread.join()
        elif calls is not None:
            _finish_elsewhere(calls, cancel=cancel_futures, wait=wait)

    def _importable(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """Return the call as it is, or as a call of `call` that takes the function's pickle."""
        if self._is_remote and getattr(fn, "__module__", None) == "__main__":
            raise InvalidTask(
                "a shared pool cannot import from a client's main script; "
                "put the function in a module"
            )
        try:
            describe(fn, importable=not self._in_threads)
        except InvalidTask:
            is_plain = isinstance(fn, types.FunctionType) or not callable(fn)
            if is_plain or iscoroutinefunction(fn):
                raise
            return call, (fn, args, kwargs), {}
        return fn, args, kwargs

    def _check_open(self) -> None:
        if _is_exiting:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if self._is_lost:
            raise PoolClosed(FORKED)

    def _begin_early(self) -> None:
        if self._calls is None or (self._thread is not None and self._thread.is_over):
            self._is_opening = True
            try:
                self._open()
            except BaseException:
                self._early.clear()
                raise
            finally:
                self._is_opening = False
        assert self._calls is not None
        while self._early:
            future = self._early.popleft()
            future.calls = self._calls
            self._calls.submitted += 1
            self._calls.loop.call_soon_threadsafe(self._calls.begin, future)

    def _open(self) -> None:
        given = self._given
        if given is not None and given.loop is not None and self._thread is None:
            self._calls = Calls(given, given.loop)
            self._calls.open()
            return
        thread = PoolThread(self._make_pool(), self._lock, _threads.discard)
        _threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # a shortage of threads
            _threads.discard(thread)
            raise
        # An executor that is garbage lets its calls finish, and its pool end.
        finalizer = weakref.finalize(self, thread.finish)
        finalizer.atexit = False
        self._calls, self._thread, self._finalizer = thread.calls, thread, finalizer

    def _next_given(self) -> Pool | RemotePool:
        """Return the pool that was given, or another connection if it could not be started."""
        assert self._given is not None
        if isinstance(self._given, RemotePool) and self._given.loop is not None:
            self._given = self._given.another()
        return self._given

    def _after_fork(self) -> None:
        """Forget the parent's thread and pool, in the child."""
        self._lock = threading.RLock()
        if self._finalizer is not None:
            self._finalizer.detach()
        self._is_lost = isinstance(self._given, Pool) and self._given.loop is not None
        if isinstance(self._given, RemotePool):
            self._given = self._given.another()
        self._calls = self._thread = self._finalizer = None
        self._early.clear()
        self._is_opening = False


def _finish_elsewhere(calls: Calls, *, cancel: bool, wait: bool) -> None:
    """Finish the calls of a pool whose event loop is not the executor's."""
    is_done = threading.Event()
    finish = partial(calls.finish, cancel=cancel, when_done=is_done.set)
    if wait and calls.is_here():
        if calls.answered < calls.submitted:
            raise RuntimeError("shutdown(wait=True) on the pool's own event loop would never end")
        return
    with contextlib.suppress(RuntimeError):  # the event loop is closed, so no call is open
        calls.loop.call_soon_threadsafe(finish)
        if wait:
            is_done.wait()


def _chunks(calls: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    while chunk := list(itertools.islice(calls, size)):
        yield chunk


def _flatten(results: Iterator[list[T]]) -> Iterator[T]:
    for chunk in results:
        chunk.reverse()
        while chunk:
            yield chunk.pop()  # without a reference to the result here


_executors: "weakref.WeakSet[PoolExecutor]" = weakref.WeakSet()
_threads: set[PoolThread] = set()  # those that run, also of executors that are garbage
_inherited: list[object] = []  # the parent's, in a child of a fork; their destructors must not run
_is_exiting = False


def _exit() -> None:
    """Finish all calls before the interpreter ends."""
    global _is_exiting
    _is_exiting = True
    threads = list(_threads)
    for thread in threads:
        thread.finish()
    for thread in threads:
        thread.join()


def _after_fork() -> None:
    _inherited.extend(_threads)
    _threads.clear()
    for executor in list(_executors):
        executor._after_fork()


atexit.register(_exit)
os.register_at_fork(after_in_child=_after_fork)
