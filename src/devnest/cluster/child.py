"""The supervisor's view of one child process: starts, configures, watches and stops it."""

import asyncio
import os
import signal
import socket
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from devnest.cluster.control import MAX_LINE_BYTES, Report
from devnest.cluster.start import SUPERVISOR_SIGNALS
from devnest.pool.runtime.interpreter import how_it_ended, import_path, interpreter

__all__ = ["Child", "ChildFailed"]

PROGRAM = "from devnest.cluster.start import main; main()"
# A child that sends no heartbeat for this long is killed. The longest pause of a healthy event loop
# is one hash (`--hashing inline`), which takes a few seconds.
HEARTBEAT_TIMEOUT_S = 60.0
# A child that has been told to stop now (SIGUSR1) is killed after this time. It covers the five
# seconds in which waiting mail is still sent (`devnest.mail.outbox.DRAIN_TIMEOUT_S`).
STOP_NOW_TIMEOUT_S = 7.0


class ChildFailed(Exception):
    """A child could not start.

    Attributes:
        name: The child's name, such as `server-0`.
        reason: Why, in words for the operator.
        status: The exit status that `devnest serve` ends with because of it.
        transient: Whether another try may succeed.
    """

    def __init__(self, name: str, reason: str, status: int = 1, *, transient: bool = False) -> None:
        super().__init__(f"{name}: {reason}" if status == 1 else reason)
        self.name = name
        self.reason = reason
        self.status = status
        self.transient = transient


class Child:
    """A fresh interpreter that runs the `main` function of a module.

    It has a session of its own, so that Ctrl-C in a terminal reaches the supervisor only.

    Args:
        name: Its name in the log and the metrics.
        module: The module whose `main` it runs. `main` gets the numbers of file descriptors: the
            control socket's, then the `inherited` ones.
        inherited: File descriptors that the child shares with this process.
        cpu: The only CPU that the child runs on, if the system permits that.
    """

    def __init__(
        self, name: str, module: str, inherited: Sequence[int] = (), cpu: int | None = None
    ) -> None:
        self.name = name
        self.cpu = cpu
        self.started_at = 0.0
        self.is_ready = False
        self._module = module
        self._inherited = inherited
        self._process: Process | None = None  # stays None when a stop interrupts `spawn`
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @property
    def pid(self) -> int:
        """The process id; only after `spawn`."""
        assert self._process is not None
        return self._process.pid

    async def spawn(self) -> None:
        """Start the interpreter, which loads its modules and then waits for `configure`.

        Raises:
            ChildFailed: The process could not be started.
        """
        try:
            await self._spawn()
        except (OSError, RuntimeError) as error:  # RuntimeError: asyncio cannot start its thread
            raise ChildFailed(
                self.name, f"it could not be spawned: {error}", transient=True
            ) from error

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._reader, self._writer = await asyncio.open_connection(
                sock=ours, limit=MAX_LINE_BYTES
            )
            fds = [theirs.fileno(), *self._inherited]
            self.started_at = time.monotonic()
            command = interpreter(PROGRAM, [self._module, *map(str, fds)], import_path())
            # The child inherits the mask, and unblocks the signals once it ignores them.
            signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISOR_SIGNALS)
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command, pass_fds=fds, stdin=DEVNULL, stdout=DEVNULL, start_new_session=True
                )
            except BaseException:
                self._writer.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISOR_SIGNALS)
        if self.cpu is not None:
            with suppress(OSError):  # the child has ended, or the CPU is no longer ours
                os.sched_setaffinity(self._process.pid, {self.cpu})

    def configure(self, settings: msgspec.Struct) -> None:
        """Send the child its settings; it starts its work with them."""
        self._writer.write(msgspec.json.encode(settings) + b"\n")

    async def wait_ready(self) -> None:
        """Wait until the child reports that it is ready.

        Raises:
            ChildFailed: It reported why it cannot work, or it ended.
        """
        try:
            line = await self._reader.readline()
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            raise ChildFailed(self.name, f"it ended before it was ready, {await self.wait_end()}")
        try:
            report = msgspec.json.decode(line, type=Report)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ChildFailed(self.name, "its report cannot be read") from None
        if report.status is not None:
            raise ChildFailed(self.name, report.reason, report.status, transient=report.transient)
        self.is_ready = True

    async def wait_end(self) -> str:
        """Wait until the child has ended, and say how: `with status 1` or `by SIGKILL`."""
        if self._process is None:
            return "before it began"
        code = await self._process.wait()
        self._writer.close()
        return how_it_ended(code)

    async def watch(self) -> str:
        """Wait until a ready child has ended, and say how. Kill it if its event loop hangs."""
        silences = 0
        # One silence proves nothing: if this process itself was suspended, its timer fires before
        # it reads the heartbeats that have arrived.
        while silences < 2:
            try:
                async with asyncio.timeout(HEARTBEAT_TIMEOUT_S / 2):
                    heartbeats = await self._reader.read(MAX_LINE_BYTES)
            except TimeoutError:
                silences += 1
            except OSError:
                break
            else:
                silences = 0
                if not heartbeats:
                    break
        else:
            self.kill()
            how = await self.wait_end()
            return f"{how}, since its event loop had hung for {HEARTBEAT_TIMEOUT_S:g} s"
        return await self.wait_end()

    def has_ended(self) -> bool:
        """Return whether the child has ended, or never started."""
        return self._process is None or self._process.returncode is not None

    def kill(self) -> None:
        """Kill the child without waiting for its end."""
        self._signal(signal.SIGKILL)

    async def stop(self, grace_s: float) -> None:
        """Ask the child to drain, after `grace_s` seconds to stop now, and finally kill it.

        Args:
            grace_s: How long the child may drain, in seconds. Then it gets `STOP_NOW_TIMEOUT_S`.
        """
        for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGUSR1, STOP_NOW_TIMEOUT_S)):
            self._signal(number)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self.wait_end()
                    return
        self.kill()
        await self.wait_end()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            if self._process is not None and not self.has_ended():
                self._process.send_signal(number)
