"""`RemotePool`: a client of the shared pool of this machine.

A client keeps each call until it is answered. If the server dies, the client connects to the next
one and sends the calls again that may be repeated. A call that was sent may have run, so it is
repeated only if its function is pure. No call is sent before the server's greeting, so a call has
not run if a full server refused the connection; it keeps waiting.

Request ids are never reused, and a reply whose id is not open on the present connection ends the
connection. So no caller can get the reply to another call.
"""

import asyncio
import contextlib
import functools
import itertools
import json
import math
import os
import struct
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from devnest.pool.calls import open_answer, pack_arguments
from devnest.pool.context import Context
from devnest.pool.core.stats import Stats
from devnest.pool.core.tasks import check_options, seconds
from devnest.pool.core.timers import Timers
from devnest.pool.errors import (
    FORKED,
    NOT_OPEN,
    OTHER_LOOP,
    DeadlineExceeded,
    InvalidTask,
    PoolClosed,
    PoolError,
    PoolFull,
    WorkerCrashed,
)
from devnest.pool.functions import Function, describe
from devnest.pool.link import ServerLink
from devnest.pool.wire.payload import Packed, Segment
from devnest.pool.wire.peer import parse_url
from devnest.pool.wire.protocol import (
    Frame,
    Kind,
    Submission,
    WireError,
    frame,
    write_submission,
)
from devnest.pool.wire.replies import Deferred, read_reply, read_times

if TYPE_CHECKING:
    from devnest.pool.launcher import Launcher

__all__ = ["RemotePool"]

# Calls of one client that have no answer, with cancelled ones that the server has not confirmed.
# Without a bound they would fill the memory while a server is away or does not read.
MAX_OPEN_CALLS = 10_000
# Sends of one pure call. Each server before the last greeted and then died, so the call may be the
# cause.
MAX_SENDS = 16
# A client waits this much longer than the deadline, so that the server usually reports it.
DEADLINE_SLACK_S = 0.05


class _Call:
    """A call or a request for statistics without a reply."""

    __slots__ = (
        "deadline_at",
        "future",
        "gives_up_at",
        "request_id",
        "sends",
        "submission",
        "times",
    )

    def __init__(
        self,
        request_id: int,
        submission: Submission | None,
        future: "asyncio.Future[Any]",
        gives_up_at: float,
    ) -> None:
        self.request_id = request_id
        self.submission = submission  # `None` for a request for statistics
        self.future = future
        self.gives_up_at = gives_up_at  # the call fails if no server is connected then
        self.deadline_at = math.inf
        self.sends = 0
        self.times: tuple[float, float] | None = None  # if they are asked for

    def may_be_sent_again(self) -> bool:
        """Whether the call may be sent to the next server, although it may have run already."""
        if not self.sends:
            return True
        return self.sends < MAX_SENDS and (self.submission is None or self.submission.function.pure)


class RemotePool:
    """A connection to the shared pool of this machine, restored when it breaks.

    Use it as an asynchronous context manager, on one event loop. `Pool.connect` makes one.

    Args:
        url: The address of the server's socket, `unix:///path/to/socket`.
        patience: Seconds that calls wait for a server while none answers.
        make_launcher: Makes what starts a server where none answers; `None` to wait for one.
        context: As for `Pool`.
        record_times: As for `Pool.connect`.

    Raises:
        InvalidTask: The address or an option is invalid.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: float = 10.0,
        make_launcher: "Callable[[], Launcher] | None" = None,
        context: Sequence[str] = (),
        record_times: Callable[[float, float], None] | None = None,
    ) -> None:
        if not patience >= 0:
            raise InvalidTask(f"patience must be 0 or more seconds, not {patience}")
        # Makes another connection to the same pool, which is not started.
        self.another = functools.partial(
            RemotePool,
            url,
            patience=patience,
            make_launcher=make_launcher,
            context=context,
            record_times=record_times,
        )
        self._patience = patience
        self._context = Context(context)
        self._record_times = record_times
        self._link = ServerLink(
            parse_url(url),
            make_launcher and make_launcher(),
            self._received,
            self._on_server_back,
            self._on_server_gone,
        )
        self._pid = 0  # of the process that started the connection
        # The event loop on which it was started, for `PoolExecutor`.
        self.loop: asyncio.AbstractEventLoop | None = None
        self._ids = itertools.count(1)
        self._open: dict[int, _Call] = {}
        self._dropped: set[int] = set()  # cancelled here, but not yet confirmed by the server
        self._functions: dict[Callable[..., Any], Function] = {}
        # By request id, so that a timer does not keep a finished call's arguments alive.
        self._timers: Timers[int] = Timers(lambda _when, request_id: request_id in self._open)
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Event = asyncio.Event()
        self._state = "new"

    def __repr__(self) -> str:
        where = "connected" if self._link.channel else "away"
        return f"<RemotePool {self._link.path} {self._state} {where} open={len(self._open)}>"

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
        """Connect to the server; `async with` does the same.

        Raises:
            PoolClosed: No server answered for `patience` seconds, none can be started in the
                directory of the socket, or `start` was called before.
        """
        if self._state != "new":
            raise PoolClosed(
                "a connection to a pool starts once; make another by Pool.shared or Pool.connect"
            )
        self._state = "open"
        self._pid = os.getpid()
        self.loop = asyncio.get_running_loop()
        self._link.connect()
        try:
            if not await self._link.is_greeted(self._patience):
                raise self._no_server_error()
        except BaseException:  # the block is not entered, so `__aexit__` will not stop the attempts
            await self.close(force=True)
            raise

    async def close(self, *, force: bool = False, deadline: float | None = None) -> None:
        """Accept no more calls, wait for the present ones, and disconnect.

        Cancelling `close` has the effect of `force`.

        Args:
            force: Do not wait: calls without an answer raise `PoolClosed` and the server drops
                them.
            deadline: Seconds after which `close` goes on as with `force`; `None` for no limit.
        """
        self._state = "closed"
        try:
            if self._open and not force:
                self._idle.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(deadline):
                        await self._idle.wait()
        finally:
            for call in list(self._open.values()):
                self._finish(call, PoolClosed("the pool was closed before the task was answered"))
            if self._timer is not None:
                self._timer.cancel()
            await self._link.close()

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
        """Run `func(*args, **kwargs)` in the shared pool and return its result.

        If `run` is cancelled, the server drops the call as `Pool.run` does.

        Args:
            func: A function that a worker of the server can import by its module and qualified
                name. A function of the client's main script is refused.
            *args: Its positional arguments, which are pickled.
            timeout: Seconds that it may run before its worker is killed; `None` for no limit.
            deadline: Seconds from now until the answer is due; `None` for no limit. The time for
                which no server answers counts too.
            priority: As for `Pool.run`, among the calls of all clients.
            key: As for `Pool.run`, among the calls of this client. Clients take turns as well.
            **kwargs: Its keyword arguments, which are pickled.

        Returns:
            The result of the function.

        Raises:
            PoolFull: The queue is full, the call would probably miss its deadline, or 10,000 calls
                of this client have no answer.
            TaskTimeout: The call ran longer than `timeout`.
            DeadlineExceeded: The call was not answered by its `deadline`.
            WorkerCrashed: The worker died, or no worker could be started. Or the server died while
                it had the call, and the function is not pure or no server answered within
                `patience`.
            PoolClosed: The connection is closed, or no server answers for `patience` seconds.
            InvalidTask: The function, an argument or an option is invalid, the server's `allow`
                does not include the function, or the call exceeds its `max_frame_bytes`.
            NotPicklable: The result or the exception cannot be pickled.
            Exception: What the function raised, with a `WorkerTraceback` as its cause.
        """
        timeout_s, deadline_s = seconds("timeout", timeout), seconds("deadline", deadline)
        check_options(timeout_s, priority, key)
        function = self._functions.get(func)
        if function is None:
            function = self._functions[func] = describe(func)
        if function.max_size and kwargs:
            raise InvalidTask("a batched function takes positional arguments only")
        values = self._context.values() if self._context and not function.max_size else None
        payload = pack_arguments(args, kwargs, values)
        submission = Submission(function, payload, priority, key or "", timeout_s, deadline_s)
        return open_answer(await self._ask(submission, deadline_s))

    async def stats(self) -> Stats:
        """Return the statistics of the shared pool.

        Raises:
            PoolClosed: The connection is closed, or no server answers for `patience` seconds.
        """
        answer = await self._ask(None, math.inf)
        if isinstance(answer, PoolError):
            raise answer
        return Stats.from_dict(json.loads(cast(tuple[int, Packed], answer)[1].data))

    async def _ask(self, submission: Submission | None, deadline_s: float) -> object:
        now = time.monotonic()
        if self._state != "open":
            raise PoolClosed(NOT_OPEN if self._state == "new" else "the pool was closed")
        if self._pid != os.getpid():
            raise PoolClosed(FORKED)
        if asyncio.get_running_loop() is not self.loop:
            raise PoolClosed(OTHER_LOOP)
        # Frames of dropped calls count too: they may still wait here to be sent.
        if len(self._open) + len(self._dropped) >= MAX_OPEN_CALLS:
            raise PoolFull(1.0, f"{MAX_OPEN_CALLS} calls of this client have no answer yet")
        if self._link.channel is None and now > self._link.away_since + self._patience:
            raise self._no_server_error()
        loop = asyncio.get_running_loop()
        call = _Call(next(self._ids), submission, loop.create_future(), now + self._patience)
        call.deadline_at = now + deadline_s
        try:
            data, segments = _write(call)
        except (ValueError, struct.error) as error:  # raised here, whether connected or not
            raise InvalidTask(f"the call cannot be sent: {error}") from error
        self._open[call.request_id] = call
        if deadline_s < math.inf:
            self._check_at(call, call.deadline_at + DEADLINE_SLACK_S)
        if self._link.channel is not None:
            self._send(call, data, segments)
        else:
            self._check_at(call, call.gives_up_at)
        del data, segments  # or they would stay in memory while the call waits
        try:
            answer = await call.future
        except asyncio.CancelledError:
            self._drop(call)
            raise
        self._report_times(call)
        return answer

    def _report_times(self, call: _Call) -> None:
        if self._record_times is not None and call.times is not None:
            self._record_times(*call.times)

    # Replies.

    def _received(self, received: Frame) -> None:
        if received.kind != Kind.REPLY:
            raise WireError(f"a server does not send frames of kind {received.kind}")
        answer = read_reply(received)
        if received.id in self._dropped:
            self._dropped.remove(received.id)
            return
        call = self._open.get(received.id)
        if call is None or not call.sends or answer is None:
            raise WireError(f"a reply to request {received.id}, which is not open")
        if isinstance(answer, Deferred):
            if self._state == "open":
                call.sends = 0  # the server is closing; the next one gets the call
                return
            answer = PoolClosed("the server is closing, and so is this connection")
        if self._record_times is not None and call.submission and isinstance(answer, tuple):
            call.times = read_times(received)
        self._finish(call, answer)
        self._link.answered()

    def _finish(self, call: _Call, answer: object) -> None:
        del self._open[call.request_id]
        if not call.future.done():
            call.future.set_result(answer)
        if not self._open:
            self._idle.set()

    def _drop(self, call: _Call) -> None:
        if self._open.pop(call.request_id, None) is None:
            return
        if self._link.channel is not None and call.sends:
            self._dropped.add(call.request_id)
            self._link.channel.send(frame(Kind.CANCEL, call.request_id))
        if not self._open:
            self._idle.set()

    # The server.

    def _on_server_back(self) -> None:
        for call in list(self._open.values()):
            self._send(call, *_write(call))

    def _send(self, call: _Call, data: bytes, segments: Sequence[Segment]) -> None:
        assert self._link.channel is not None
        limit = self._link.max_frame_bytes
        if len(data) > limit:  # the server would end the connection for all calls
            text = f"the call is {len(data)} bytes beside its memory files, and the server takes {limit}"
            self._finish(call, InvalidTask(text))
            return
        self._link.channel.send(data, segments)
        call.sends += 1

    def _on_server_gone(self, reason: str) -> bool:
        """Fail the calls that may have run; return whether the next server is needed."""
        self._dropped.clear()
        gives_up_at = self._link.away_since + self._patience
        for call in list(self._open.values()):
            if not call.may_be_sent_again():
                gone = f"the pool server went away while it had the task: {reason}"
                self._finish(call, WorkerCrashed(gone))
            else:
                call.gives_up_at = gives_up_at
                self._check_at(call, call.gives_up_at)
        return self._state == "open" or bool(self._open)

    def _no_server_error(self) -> PoolClosed:
        return PoolClosed(
            f"no pool server of this user answered at {self._link.path}"
            f"{self._link.why_not(self._patience)}"
        )

    # Time.

    def _check_at(self, call: _Call, when: float) -> None:
        next_at = self._timers.next_at()
        self._timers.add(when, call.request_id)
        if when < next_at or self._timer is None:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        next_at = self._timers.next_at()
        if next_at < math.inf:
            delay_s = max(0.0, next_at - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        now = time.monotonic()
        try:
            while (request_id := self._timers.pop_due(now)) is not None:
                call = self._open[request_id]
                if now >= call.deadline_at:
                    self._drop(call)
                    if not call.future.done():  # it may have been cancelled in this iteration
                        call.future.set_result(
                            DeadlineExceeded("the shared pool did not answer by the deadline")
                        )
                elif self._link.channel is None and now >= call.gives_up_at:
                    lost = WorkerCrashed(
                        f"the pool server went away with the task and did not return: {self._link.path}"
                    )
                    self._finish(call, lost if call.sends else self._no_server_error())
        finally:  # without a timer, no other call would ever time out
            self._set_timer()


def _write(call: _Call) -> tuple[bytes, Sequence[Segment]]:
    """Return the frame of a call, with the time that is left until its deadline."""
    if call.submission is None:
        return frame(Kind.STATS, call.request_id), ()
    left_s = max(0.0, call.deadline_at - time.monotonic())
    return write_submission(call.request_id, call.submission._replace(deadline_s=left_s))
