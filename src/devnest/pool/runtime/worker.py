"""The program of a worker process: boot, report ready, then receive, run and answer batches.

The process starts by exec and inherits only two sockets and, on Linux, the page of `progress.py`.
One socket is the connection to the pool. The other is the lifeline, on which nothing is ever sent:
when its other end closes, because the pool's process has died in whatever way, the kernel kills the
process group of this worker. That needs no thread, and no task can block it.
"""

import contextlib
import fcntl
import importlib
import io
import os
import signal
import socket
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

from devnest.pool.context import run_with
from devnest.pool.errors import NotPicklable, WorkerCrashed, safe_repr
from devnest.pool.functions import MAIN_NAME, loading_main, resolve
from devnest.pool.runtime.priority import Priority
from devnest.pool.runtime.progress import ALL, Progress
from devnest.pool.wire.payload import Packed, Segment, pack, unpack
from devnest.pool.wire.protocol import (
    FAILED,
    OK,
    SKIPPED,
    Batch,
    Frame,
    FrameReader,
    Kind,
    frame,
    read_batch,
    receive,
    write_items,
)

__all__ = ["main"]

MAX_TRACEBACK_CHARS = 64 * 1024  # bounds a reply when an exception's message is a whole document
_F_SETSIG = 10  # linux/fcntl.h


def main(wire_fd: int, lifeline_fd: int, progress_fd: int | None = None) -> None:
    """Serve the pool until it closes the connection."""
    progress = None
    if progress_fd is not None:
        progress = Progress(progress_fd)
        os.close(progress_fd)
    # Ctrl-C is for the pool's process, which decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(wire_fd, False)
    os.set_inheritable(lifeline_fd, False)
    _die_with_parent(lifeline_fd)
    wire = socket.socket(fileno=wire_fd)
    # A child that a task forks must not keep the connection open. The pool notices the death of
    # this worker by its end.
    os.register_at_fork(after_in_child=wire.close)
    reader = FrameReader()
    priority = Priority()
    own_pid = os.getpid()
    # A connection error means that the pool has gone: exit normally.
    with contextlib.suppress(ConnectionError):
        for received in _frames(wire, reader):
            reply, segments = _handle(received, progress, priority)
            if os.getpid() != own_pid:  # a child that a task forked returned into this loop
                os._exit(0)
            _send(wire, reply, segments)
            priority.retry()


def _frames(wire: socket.socket, reader: FrameReader) -> Iterator[Frame]:
    while True:
        data, segments, _ = receive(wire)
        if not data:
            return
        yield from reader.feed(data, segments)


def _send(wire: socket.socket, data: bytes, segments: list[Segment]) -> None:
    if segments:
        sent = socket.send_fds(wire, [data], [segment.fd for segment in segments])
        data = data[sent:]
    wire.sendall(data)


def _die_with_parent(lifeline_fd: int) -> None:
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, -os.getpgrp())
    if sys.platform == "linux":
        # Other systems send SIGIO, which also ends a process by default.
        fcntl.fcntl(lifeline_fd, _F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(lifeline_fd, fcntl.F_GETFL)
    fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, flags | os.O_ASYNC)


def _handle(
    received: Frame, progress: Progress | None, priority: Priority
) -> tuple[bytes, list[Segment]]:
    if received.kind == Kind.BOOT:
        boot(priority, **unpack(Packed(received.body)))
        return frame(Kind.READY, 0), []
    batch = read_batch(received)
    if progress is not None and batch.is_batched:
        progress.begin(ALL)
    answers = _run(batch, progress)
    body, segments = write_items(answers)
    rss = _rss() if batch.reports_rss else 0
    return frame(Kind.DONE, received.id, rss.to_bytes(8, "little") + body, len(segments)), segments


def boot(
    priority: Priority,
    *,
    path: list[str],
    main_path: str | None,
    main_module: str | None,
    nice: int,
    names: list[str],
    line_buffering: bool,
) -> None:
    """Take over the parent's import path and script, then import the functions in use."""
    sys.path[:] = path
    if nice:
        priority.lower(nice)
    if line_buffering and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # someone reads each line when it is printed
    sys.modules["__main__"] = _Main(main_path, main_module)
    for name in names:
        with contextlib.suppress(BaseException):  # a task that calls it will report the error
            _function(name)


class _Main(types.ModuleType):
    """Stands in for the parent's `__main__`; the first use of an attribute runs its script."""

    def __init__(self, path: str | None, module: str | None) -> None:
        super().__init__("__main__")
        self._source = path, module
        self._namespace: dict[str, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        if self._namespace is None:
            self._namespace = self._load()
        try:
            return self._namespace[name]
        except KeyError:
            raise AttributeError(
                f"the main script has no {name!r} when it is imported by a worker"
            ) from None

    def _load(self) -> dict[str, Any]:
        import runpy  # not at the top: few workers need it, and all would start more slowly

        path, module = self._source
        sys.modules[MAIN_NAME] = self  # classes of the script are pickled under this name
        with loading_main():
            if module is not None:
                return runpy.run_module(module, run_name=MAIN_NAME)
            if path is not None:
                return runpy.run_path(path, run_name=MAIN_NAME)
        raise AttributeError(
            "the main module of the parent is no file, so a worker cannot import from it; "
            "put what it needs in a module"
        )


_functions: dict[str, Callable[..., Any]] = {}


def _function(name: str) -> Callable[..., Any]:
    found = _functions.get(name)
    if found is None:
        found = _functions[name] = resolve(name)
    return found


def _run(batch: Batch, progress: Progress | None) -> list[tuple[int, Packed]]:
    """Return an answer for each payload, also for those that fail."""
    payloads = batch.payloads
    try:
        func = _function(batch.name)
    except Exception as error:
        return [_failure(error)] * len(payloads)
    if not batch.is_batched:
        return [
            _run_one(func, payload)
            if progress is None or progress.begin(index)
            else (SKIPPED, Packed(b""))
            for index, payload in enumerate(payloads)
        ]
    answers: list[tuple[int, Packed] | None] = [None] * len(payloads)
    calls: list[tuple[int, tuple[Any, ...]]] = []
    for index, payload in enumerate(payloads):
        try:
            calls.append((index, unpack(payload)[0]))
        except Exception as error:
            answers[index] = _failure(error)
    for (index, _), answer in zip(
        calls, _run_many(func, [call for _, call in calls], batch.is_pure), strict=True
    ):
        answers[index] = answer
    return [answer for answer in answers if answer is not None]


def _run_one(func: Callable[..., Any], payload: Packed) -> tuple[int, Packed]:
    try:
        args, *more = unpack(payload)
        if len(more) == 2:
            result = run_with(more[1], func, args, more[0])
        else:
            result = func(*args, **more[0]) if more else func(*args)
    except Exception as error:
        return _failure(error)
    return _success(result)


def _run_many(
    func: Callable[..., Any], calls: list[tuple[Any, ...]], is_pure: bool
) -> list[tuple[int, Packed]]:
    if not calls:
        return []
    try:
        results = list(func(calls))
        if len(results) != len(calls):
            raise ValueError(f"a batch of {len(calls)} calls gave {len(results)} results")
    except Exception as error:
        if is_pure and len(calls) > 1:  # run the calls one by one to find those that fail
            return [answer for call in calls for answer in _run_many(func, [call], is_pure)]
        return [_failure(error)] * len(calls)
    return [_pack_entry(result) for result in results]


def _pack_entry(result: Any) -> tuple[int, Packed]:
    """Return the answer for one entry of a batched function's list of results."""
    # `type`, not `isinstance`, which an object can deceive by its `__class__`.
    if issubclass(type(result), Exception):
        return _failure(result)
    if issubclass(type(result), BaseException):
        return _failure(WorkerCrashed(f"the task gave {safe_repr(result)}"), result)
    return _success(result)


def _success(result: Any) -> tuple[int, Packed]:
    try:
        return OK, pack(result)
    except BaseException as error:
        return _failure(NotPicklable(f"the result could not be pickled: {safe_repr(error)}"), error)


def _failure(error: Exception, seen: BaseException | None = None) -> tuple[int, Packed]:
    text = _traceback_of(error if seen is None else seen)
    try:
        packed = pack((error, text))
        # An exception with a constructor of its own may pickle and yet fail to unpickle.
        raised, _ = unpack(packed)
        if not issubclass(type(raised), Exception):
            raise TypeError(f"it comes back as {safe_repr(raised)}")
    except BaseException as problem:
        lost = NotPicklable(
            f"the exception could not be pickled ({safe_repr(problem)}): {safe_repr(error)}"
        )
        packed = pack((lost, text))
    return FAILED, packed


def _traceback_of(error: BaseException) -> str:
    """Return the traceback's text, shortened in its middle, even if the exception misbehaves."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:
        return safe_repr(error)
    half = MAX_TRACEBACK_CHARS // 2
    return text if len(text) <= MAX_TRACEBACK_CHARS else f"{text[:half]}\n…\n{text[-half:]}"


def _rss() -> int:
    """Return the resident memory of this process in bytes."""
    try:
        # Half the time of `Path.read_bytes`.
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        resource = importlib.import_module("resource")
        # In bytes on macOS, and the peak rather than the present size.
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
