"""What several tests of the pool share."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
SAFETY_S = 60.0  # a bound for a hang, not a measure


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that another process does.

    A test that waits in vain ends by its own time limit.
    """
    async with asyncio.timeout(SAFETY_S):
        while not condition():
            await asyncio.sleep(0.001)


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie that only waits to be reaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class ServerProcess:
    """``python -m devnest.pool serve`` as its own process."""

    def __init__(self, path: Path, *options: str, cwd: Path = ROOT) -> None:
        self.path = path
        self._cwd = cwd
        self._options = options
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it; :meth:`ready` waits for it."""
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "devnest.pool",
                "serve",
                "--socket",
                str(self.path),
                *self._options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    async def ready(self) -> None:
        """Wait for the line that says it answers."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        assert line == f"devnest.pool ready on unix://{self.path}\n"

    def workers(self) -> list[int]:
        """Return the pids of its workers."""
        assert self.process is not None
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    async def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; return the exit status and what was written to standard error."""
        assert self.process is not None
        self.process.send_signal(number)
        _, errors = await asyncio.to_thread(self.process.communicate)
        status = self.process.returncode
        self.process = None
        return status, errors

    async def restart_after_kill(self) -> None:
        """Kill it and start another in its place."""
        await self.end(signal.SIGKILL)
        self.start()
        await self.ready()


@contextlib.asynccontextmanager
async def serving(path: Path, *options: str, cwd: Path = ROOT) -> AsyncIterator[ServerProcess]:
    """A server process, killed at the end if it still runs; its socket file is removed then."""
    server = ServerProcess(path, *options, cwd=cwd)
    server.start()
    try:
        await server.ready()
        yield server
    finally:
        if server.process is not None:
            await server.end(signal.SIGKILL)
        path.unlink(missing_ok=True)
