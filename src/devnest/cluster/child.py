"""A child process, from its start to its end, as the supervisor sees it."""

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
from devnest.cluster.start import SUPERVISORS
from devnest.pool.runtime.interpreter import how_it_ended, import_path, interpreter

__all__ = ["Child", "ChildFailed"]

PROGRAM = "from devnest.cluster.start import main; main()"
HANG_S = 60.0  # without a beat; the slowest hash on an event loop takes a few seconds
INSIST_S = 7.0  # from being told that its time is up: mail that waits has five seconds of it (devnest.mail.outbox)


class ChildFailed(Exception):
    """A child could not start; `status` is the exit status it asks for. `passing`: trying on is of use."""

    def __init__(self, name: str, reason: str, status: int = 1, *, passing: bool = False) -> None:
        super().__init__(f"{name}: {reason}" if status == 1 else reason)
        self.name = name
        self.reason = reason
        self.status = status
        self.passing = passing


class Child:
    """A module's `main` run by a fresh interpreter, in a session of its own so that Ctrl-C is the supervisor's.

    Its arguments are the number of the control socket and those of the `inherited` descriptors. `cpu` is the only one
    that it runs on, where Linux lets it.
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
        self._process: Process | None = None  # until `spawn` is through, which a stop may interrupt
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @property
    def pid(self) -> int:
        """Its process id, once spawned."""
        assert self._process is not None
        return self._process.pid

    async def spawn(self) -> None:
        """Start the interpreter; it loads its modules and waits for `configure`. Raises `ChildFailed`."""
        try:
            await self._spawn()
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread to wait for it
            raise ChildFailed(
                self.name, f"it could not be spawned: {error}", passing=True
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
            signal.pthread_sigmask(
                signal.SIG_BLOCK, SUPERVISORS
            )  # inherited; it unblocks them once it ignores them
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command, pass_fds=fds, stdin=DEVNULL, stdout=DEVNULL, start_new_session=True
                )
            except BaseException:
                self._writer.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISORS)
        if self.cpu is not None:
            with suppress(OSError):  # it ended meanwhile, or the CPU was taken away
                os.sched_setaffinity(self._process.pid, {self.cpu})

    def configure(self, settings: msgspec.Struct) -> None:
        """Send the settings."""
        self._writer.write(msgspec.json.encode(settings) + b"\n")

    async def wait_ready(self) -> None:
        """Wait until it says it is ready; raises `ChildFailed` with its reason, or with how it ended."""
        try:
            line = await self._reader.readline()
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            raise ChildFailed(self.name, f"it ended before it was ready, {await self.wait_end()}")
        try:
            report = msgspec.json.decode(line, type=Report)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ChildFailed(self.name, "it did not say what it means") from None
        if report.status is not None:
            raise ChildFailed(self.name, report.reason, report.status, passing=report.passing)
        self.is_ready = True

    async def wait_end(self) -> str:
        """Wait for its end, and say how it came."""
        if self._process is None:
            return "before it began"
        code = await self._process.wait()
        self._writer.close()
        return how_it_ended(code)

    async def watch(self) -> str:
        """From ready on: wait for its end, and say how it came. One whose event loop hangs is killed."""
        silences = 0
        while (
            silences < 2
        ):  # one alone may be ours: where this process was stopped, its timer comes before the beats
            try:
                async with asyncio.timeout(HANG_S / 2):
                    beats = await self._reader.read(MAX_LINE_BYTES)
            except TimeoutError:
                silences += 1
            except OSError:
                break
            else:
                silences = 0
                if not beats:
                    break
        else:
            self.kill()
            return f"{await self.wait_end()}, since its event loop had hung for {HANG_S:g} s"
        return await self.wait_end()

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process is None or self._process.returncode is not None

    def kill(self) -> None:
        """End it now."""
        self._signal(signal.SIGKILL)

    async def stop(self, patience_s: float) -> None:
        """Ask it to finish what it does and end; after a while to end now; and kill it soon after that."""
        for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGUSR1, INSIST_S)):
            self._signal(number)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self.wait_end()
                    return
        self.kill()
        await self.wait_end()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it ended meanwhile
            if self._process is not None and not self.has_ended():
                self._process.send_signal(number)
