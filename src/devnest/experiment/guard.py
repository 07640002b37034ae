"""The guard process, which starts one design and owns its directory, database and server.

The guard stops and removes them when its standard input ends. So nothing is left after Ctrl-C, an
exception or `kill -9` in `devnest bench`. The guard is in a process session of its own, so that a
second Ctrl-C does not interrupt the clean-up. `EmbeddedPostgres` needs a process with one thread;
the process that runs the load has several.
"""

import asyncio
import contextlib
import http.client
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import msgspec

from devnest.experiment.messages import Failed, Job, Ready, Reply, Skipped
from devnest.pool import usable_cpus
from devnest.store import DataDirectory, EmbeddedPostgres, StoreError, ensure_database

__all__ = ["main"]

# The exit status of benchmarks/peers/start.py if something is not installed.
EXIT_NOT_INSTALLED = 69
# The end of a failed design's output that is shown.
MAX_LOG_LINES, MAX_LOG_BYTES = 10, 8192
POLL_S = 0.05
WATCH_INTERVAL_S = 1.0
# The timeout of one request to the design's readiness path.
MAX_ANSWER_S = 5.0
# The time that the server has to stop after each SIGTERM.
MAX_STOP_S = 20.0


class _Server:
    """The design's process, in a process group of its own, with its output in a file."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )

    @property
    def status(self) -> int | None:
        return self._process.poll()

    def last_lines(self) -> list[str]:
        text = self._log.read_bytes()[-MAX_LOG_BYTES:].decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()][-MAX_LOG_LINES:]

    def stop(self) -> None:
        """Send SIGTERM, after `MAX_STOP_S` a second one, then SIGKILL to the whole group."""
        for _ in range(2):
            if self.status is None:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(MAX_STOP_S)
        # macOS raises PermissionError if the group has only a zombie left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def main() -> None:
    """Read a `Job` from standard input, reply on standard output, and run it until input ends."""
    signal.signal(signal.SIGTERM, _exit)
    line = sys.stdin.buffer.readline()
    if not line:
        return
    job = msgspec.json.decode(line, type=Job)
    with ExitStack() as stack:
        try:
            _run_design(job, stack)
        except (StoreError, OSError) as error:
            _send(Failed(str(error), []))


def _exit(*_: object) -> NoReturn:
    raise SystemExit(1)


def _run_design(job: Job, stack: ExitStack) -> None:
    home = Path(tempfile.mkdtemp(prefix="devnest-bench-"))
    stack.callback(shutil.rmtree, home, ignore_errors=True)
    # Started by root, PostgreSQL runs as another user, who has to reach its directory.
    home.chmod(0o711)
    data_dir = home / "data"
    port = job.port or _free_port()
    values = {
        "{port}": str(port),
        "{cost}": str(job.hash_cost),
        "{processes}": str(usable_cpus()),
        "{data_dir}": str(data_dir),
    }
    if job.needs_database:
        values["{database_url}"] = _database(data_dir, job.postgres_bin, stack)
    command = [values.get(word, word) for word in job.command]
    # DEVNEST_ variables of the user's shell would change the design.
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("DEVNEST_")
    }
    environment = inherited | {
        name: values.get(value, value) for name, value in job.environment.items()
    }
    server = _Server(command, environment, home / "server.log")
    stack.callback(server.stop)
    deadline = time.monotonic() + job.max_start_s
    while not _answers(port, job.ready):
        if _input_ended(POLL_S):
            return
        if server.status is not None or time.monotonic() > deadline:
            _send(_not_ready(server, job.max_start_s))
            return
    _send(Ready(f"http://127.0.0.1:{port}"))
    while server.status is None and not _input_ended(WATCH_INTERVAL_S):
        pass
    if server.status is not None:
        _send(
            Failed(
                f"the server exited during the run with status {server.status}", server.last_lines()
            )
        )


def _not_ready(server: _Server, max_start_s: float) -> Reply:
    log = server.last_lines()
    if server.status == EXIT_NOT_INSTALLED:
        return Skipped(log[-1] if log else "something it needs is not installed")
    if server.status is None:
        return Failed(f"the server was not ready within {max_start_s:.0f} s", log)
    return Failed(f"the server did not start: it exited with status {server.status}", log)


def _database(path: Path, postgres_bin: str | None, stack: ExitStack) -> str:
    """Start an empty PostgreSQL with the settings of DevNest's own, and return its URL."""
    directory = DataDirectory(path)
    directory.open()
    stack.callback(directory.close)
    postgres = EmbeddedPostgres(directory, Path(postgres_bin) if postgres_bin else None)
    stack.callback(postgres.stop)
    postgres.start()
    asyncio.run(ensure_database(postgres.url))
    return postgres.url


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=MAX_ANSWER_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _input_ended(wait_s: float) -> bool:
    """Wait for the end of standard input; after the first line nothing else arrives."""
    return bool(select.select([sys.stdin], [], [], wait_s)[0])


def _send(reply: Reply) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
