"""A worker process as the engine uses it: start, send, stop, kill, and notice its end."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import weakref
from collections.abc import Sequence
from typing import Protocol, cast

from devnest.pool.functions import Function, main_source
from devnest.pool.runtime.interpreter import how_it_ended, import_path, interpreter
from devnest.pool.runtime.output import Output
from devnest.pool.runtime.progress import ALL, Progress
from devnest.pool.wire.channel import Channel
from devnest.pool.wire.payload import Packed, Segment, pack
from devnest.pool.wire.protocol import (
    FAILED,
    OK,
    SKIPPED,
    Frame,
    Kind,
    WireError,
    frame,
    read_items,
    write_batch,
)

__all__ = ["HAS_PROGRESS", "Events", "ProcessWorker", "boot_frame"]

_TAGS = {OK, FAILED, SKIPPED}
HAS_PROGRESS = hasattr(os, "memfd_create")

# After a request to exit, until the process is killed: exit handlers and threads of tasks may run.
STOP_GRACE_S = 1.0
# After the connection has closed, until the process is killed: it is useless without its
# connection.
EXIT_GRACE_S = 0.2
# Interval of the checks whether a process has ended. It starts at the minimum and doubles.
MIN_POLL_S, MAX_POLL_S = 0.001, 0.02

_PROGRAM = """\
from devnest.pool.runtime.worker import main
main(*map(int, sys.argv[1:]))
"""


class Events(Protocol):
    """What a worker reports to the engine."""

    def worker_ready(self, worker_id: int) -> None:
        """The worker has booted."""

    def worker_done(
        self, worker_id: int, batch_id: int, answers: Sequence[object], *, failed: int, rss: int
    ) -> None:
        """The worker answered a batch; `failed` of its calls raised, `rss` is in bytes or 0."""

    def worker_ended(self, worker_id: int, how: str, *, begun: int) -> None:
        """The worker has ended: its last event.

        Args:
            worker_id: The worker.
            how: How it ended, in words.
            begun: The index of the last call of its batch that it had begun; -1 for none.
        """


def boot_frame(*, nice: int, names: Sequence[str], line_buffering: bool = False) -> bytes:
    """Return the frame that makes a worker import and run like this process."""
    main_path, main_module = main_source()
    how = {
        "path": import_path(),
        "main_path": main_path,
        "main_module": main_module,
        "nice": nice,
        "names": list(names),
        "line_buffering": line_buffering,
    }
    return frame(Kind.BOOT, 0, pack(how).data)


# A child of a fork closes them, or the workers would outlive this process while the child lives.
_lifelines: "weakref.WeakSet[socket.socket]" = weakref.WeakSet()


def _close_lifelines() -> None:
    for lifeline in list(_lifelines):
        lifeline.close()


os.register_at_fork(after_in_child=_close_lifelines)


class ProcessWorker:
    """Owns a process in a session of its own, its connection, and its lifeline.

    The lifeline is a socket pair on which nothing is sent. The kernel kills the worker's process
    group when this end closes, however this process dies (`worker.py`).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        worker_id: int,
        boot: bytes,
        events: Events,
        *,
        max_rss: bool = False,
        output: str = "discard",
    ) -> None:
        self._loop = loop
        self._id = worker_id
        self._events = events
        self._reports_rss = max_rss
        self._sent = 0  # calls in the newest batch
        self._is_stopping = self._is_unread = self._is_status_lost = False
        self._timer: asyncio.TimerHandle | None = None
        self._output: Output | None = None
        wire, worker_wire = socket.socketpair()
        self._lifeline, worker_lifeline = socket.socketpair()
        _lifelines.add(self._lifeline)
        progress = Segment(Progress.create()) if HAS_PROGRESS else None
        self._progress = Progress(progress.fd) if progress else None
        with worker_wire, worker_lifeline:
            fds = [
                worker_wire.fileno(),
                worker_lifeline.fileno(),
                *([progress.fd] if progress else []),
            ]
            stdout, stderr = (None if output == "inherit" else subprocess.DEVNULL,) * 2
            try:
                if output == "log":
                    self._output = Output(loop, worker_id)
                    stdout, stderr = self._output.fds
                self._process = subprocess.Popen(
                    interpreter(_PROGRAM, [*map(str, fds)], import_path()),
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    pass_fds=fds,
                    # Ctrl-C does not reach it, its group is killed with it, and `nice` needs it
                    # (`priority.py`).
                    start_new_session=True,
                )
            except OSError:
                wire.close()
                self._lifeline.close()
                if self._output:
                    self._output.abandon()
                if self._progress:
                    self._progress.close()
                raise
        if self._output:
            self._output.start()
        self._channel = Channel(loop, wire, self._received, self._wire_lost)
        self._channel.send_now(boot)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, batch_id: int, function: Function, payloads: Sequence[object]) -> None:
        """Send a batch of calls of one function."""
        if self._progress:
            self._progress.reset()
        self._is_unread = self._channel.is_closed  # it died, and its end is still to be noticed
        self._sent = len(payloads)
        packed = cast(Sequence[Packed], payloads)
        self._channel.send_now(*write_batch(batch_id, function, packed, max_rss=self._reports_rss))

    def stop(self) -> None:
        """Ask the process to exit, and kill it if it does not."""
        self._is_stopping = True
        self._channel.shut_down_sending()
        self._timer = self._loop.call_later(STOP_GRACE_S, self.kill)

    def kill(self) -> None:
        """Kill the process and all processes that its tasks started in its group."""
        self._channel.close()
        self._signal_group()
        self._await_end(0.0, MIN_POLL_S)

    def hold(self) -> None:
        """Keep the process from beginning further calls of its batch."""
        if self._progress:
            self._progress.stop()

    @property
    def begun(self) -> int:
        """The index of the last call of the batch that the process has begun."""
        if self._is_unread:
            return -1
        return self._progress.begun if self._progress else ALL

    def _received(self, received: Frame) -> None:
        if received.kind == Kind.READY:
            self._events.worker_ready(self._id)
        elif received.kind == Kind.DONE:
            items = read_items(received.body, 8, received.segments)
            if len(items) != self._sent or not _TAGS.issuperset([tag for tag, _ in items]):
                raise WireError(
                    f"a worker gave {len(items)} answers to {self._sent} calls, "
                    "or one with an unknown tag"
                )
            answers = [None if item[0] == SKIPPED else item for item in items]
            failed = sum(tag == FAILED for tag, _ in items)
            rss = int.from_bytes(received.body[:8], "little")
            self._events.worker_done(self._id, received.id, answers, failed=failed, rss=rss)
        else:
            raise WireError(f"a worker sent a frame of kind {received.kind}")

    def _wire_lost(self, _reason: str, unread: bool) -> None:
        self._is_unread = unread
        # The connection closes shortly before the process ends. A process that survives it is
        # useless.
        self._await_end(STOP_GRACE_S if self._is_stopping else EXIT_GRACE_S, MIN_POLL_S)

    def _await_end(self, grace_s: float, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._has_exited():
            self._lifeline.close()
            begun = self.begun
            if self._progress:
                self._progress.close()
            if self._output:
                self._output.close()
            status = self._process.wait()
            how = (
                "ended, its status is unknown"
                if self._is_status_lost
                else f"ended {how_it_ended(status)}"
            )
            self._events.worker_ended(self._id, how, begun=begun)
            return
        if grace_s <= 0:
            self._signal_group()
        self._timer = self._loop.call_later(
            delay_s, self._await_end, grace_s - delay_s, min(MAX_POLL_S, 2 * delay_s)
        )

    def _has_exited(self) -> bool:
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._process.poll() is not None
        try:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
        except ChildProcessError:
            # This process ignores SIGCHLD, so the kernel has reaped it; the lifeline ends its
            # group.
            self._is_status_lost = True
            return True
        self._signal_group()  # until it is reaped, no other process group can have its number
        return True

    def _signal_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
