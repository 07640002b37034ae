"""What runs in a worker process: silence standard streams, boot, say ready, then receive, run, reply.

It is started by exec, so nothing of its parent is in it but two sockets: the wire, and the lifeline, on which
nothing is ever sent. The kernel is asked to kill this process's group when the lifeline's other end closes,
which happens when the parent dies in whatever way; no thread is needed for it, and no task can block it.
"""

import contextlib
import fcntl
import importlib
import os
import signal
import socket
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

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

MAX_TRACEBACK_CHARS = 64 * 1024  # of an exception whose message is a document, say
_F_SETSIG = 10  # linux/fcntl.h


def main(wire_fd: int, lifeline_fd: int, progress_fd: int | None = None) -> None:
    """Serve the pool at the other end of the wire until it closes."""
    progress = None
    if progress_fd is not None:
        progress = Progress(progress_fd)
        os.close(progress_fd)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the parent, which decides what it means
    os.set_inheritable(wire_fd, False)
    os.set_inheritable(lifeline_fd, False)
    _die_with_parent(lifeline_fd)
    wire = socket.socket(fileno=wire_fd)
    # A child that a task forks must not keep the wire open: its end is the pool's notice of this worker's
    # death.
    os.register_at_fork(after_in_child=wire.close)
    reader = FrameReader()
    priority = Priority()
    own_pid = os.getpid()
    # 1. The pool has gone: leave in the ordinary way. 2. A forked child came back into this loop: end it.
    with contextlib.suppress(ConnectionError):
        for received in _frames(wire, reader):
            reply, segments = _handle(received, progress, priority)
            if os.getpid() != own_pid:
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
        fcntl.fcntl(
            lifeline_fd, _F_SETSIG, signal.SIGKILL
        )  # elsewhere SIGIO, whose default is also to end
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
) -> None:
    """Become like the parent: its import path, its script; then import what will be needed."""
    sys.path[:] = path
    if nice:
        priority.lower(nice)
    sys.modules["__main__"] = _Main(main_path, main_module)
    for name in names:
        with contextlib.suppress(BaseException):  # the task itself will say what is wrong
            _function(name)


class _Main(types.ModuleType):
    """Stands for the parent's ``__main__``, and runs its script when something of it is first asked for."""

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
        import runpy  # few need it, and every worker would load it

        path, module = self._source
        sys.modules[MAIN_NAME] = self  # classes of the script are pickled under that name
        with loading_main():
            if module is not None:
                return runpy.run_module(module, run_name=MAIN_NAME)
            if path is not None:
                return runpy.run_path(path, run_name=MAIN_NAME)
        raise AttributeError("the parent's __main__ is no file, so a worker cannot import from it")


_functions: dict[str, Callable[..., Any]] = {}


def _function(name: str) -> Callable[..., Any]:
    found = _functions.get(name)
    if found is None:
        found = _functions[name] = resolve(name)
    return found


def _run(batch: Batch, progress: Progress | None) -> list[tuple[int, Packed]]:
    """Return an answer for each payload, whatever goes wrong with it."""
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
        args, *kwargs = unpack(payload)
        result = func(*args, **kwargs[0]) if kwargs else func(*args)
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
        if is_pure and len(calls) > 1:  # find out which of them it was
            return [answer for call in calls for answer in _run_many(func, [call], is_pure)]
        return [_failure(error)] * len(calls)
    return [_pack_entry(result) for result in results]


def _pack_entry(result: Any) -> tuple[int, Packed]:
    """Return the answer for an entry of a batch's list. Its type is asked: it may say of itself what it likes."""
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
        raised, _ = unpack(
            packed
        )  # an exception with arguments of its own may pickle and yet not come back
        if not issubclass(type(raised), Exception):
            raise TypeError(f"it comes back as {safe_repr(raised)}")
    except BaseException as problem:
        lost = NotPicklable(
            f"the exception could not be pickled ({safe_repr(problem)}): {safe_repr(error)}"
        )
        packed = pack((lost, text))
    return FAILED, packed


def _traceback_of(error: BaseException) -> str:
    """Return the traceback's text, without its middle where it is very long, whatever the exception does."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:
        return safe_repr(error)
    half = MAX_TRACEBACK_CHARS // 2
    return text if len(text) <= MAX_TRACEBACK_CHARS else f"{text[:half]}\n…\n{text[-half:]}"


def _rss() -> int:
    """Return this process's resident memory in bytes."""
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123  (half the time of Path.read_bytes)
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        resource = importlib.import_module("resource")
        return int(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        )  # bytes on macOS, and the peak
