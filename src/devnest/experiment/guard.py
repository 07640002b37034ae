"""The guard: one process for each start of a design, which owns its directory, its database and its server.

It stops and removes them all when its standard input ends. So Ctrl-C, an exception or `kill -9` in `devnest bench` all
leave nothing behind, and no clean-up is cut short by a second Ctrl-C: the guard has a session of its own. It has one
thread, which `EmbeddedPostgres` needs, and the process that runs the load has several.
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

from devnest.experiment.messages import Dead, Job, Ready, Skipped, Word
from devnest.pool import usable_cpus
from devnest.store import DataDirectory, EmbeddedPostgres, StoreError, ensure_database

__all__ = ["main"]

NOT_HERE = 69  # how benchmarks/peers/start.py says that something is not installed
LOG_LINES, LOG_TAIL_BYTES = 10, 8192
POLL_S = 0.05
LOOK_S = 1.0
ANSWER_LIMIT_S = 5.0
STOP_LIMIT_S = 20.0


class _Server:
    """The design's process, in a process group of its own; its output goes to a file."""

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
        text = self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()][-LOG_LINES:]

    def stop(self) -> None:
        """TERM, which drains; a second one, which does not wait; at last KILL to whatever of it is left."""
        for _ in range(2):
            if self.status is None:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_LIMIT_S)
        with contextlib.suppress(
            ProcessLookupError, PermissionError
        ):  # macOS refuses where only a zombie is left
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def main() -> None:
    """Start what the first line of standard input says, tell how it went, and hold it until the input ends."""
    signal.signal(signal.SIGTERM, _leave)
    line = sys.stdin.buffer.readline()
    if not line:
        return
    job = msgspec.json.decode(line, type=Job)
    with ExitStack() as stack:
        try:
            _hold(job, stack)
        except (StoreError, OSError) as error:
            _tell(Dead(str(error), []))


def _leave(*_: object) -> NoReturn:
    raise SystemExit(1)


def _hold(job: Job, stack: ExitStack) -> None:
    home = Path(tempfile.mkdtemp(prefix="devnest-bench-"))
    stack.callback(shutil.rmtree, home, ignore_errors=True)
    home.chmod(0o711)  # root's PostgreSQL runs as another user, who has to pass through
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
    # settings of the person's own DevNest would make this another design
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("DEVNEST_")
    }
    environment = inherited | {
        name: values.get(value, value) for name, value in job.environment.items()
    }
    server = _Server(command, environment, home / "server.log")
    stack.callback(server.stop)
    deadline = time.monotonic() + job.start_limit_s
    while not _answers(port, job.ready):
        if _input_ended(POLL_S):
            return
        if server.status is not None or time.monotonic() > deadline:
            _tell(_not_ready(server))
            return
    _tell(Ready(f"http://127.0.0.1:{port}"))
    while server.status is None and not _input_ended(LOOK_S):
        pass
    if server.status is not None:
        _tell(Dead(f"it ended unasked with status {server.status}", server.last_lines()))


def _not_ready(server: _Server) -> Word:
    log = server.last_lines()
    if server.status == NOT_HERE:
        return Skipped(log[-1] if log else "something it needs is not installed")
    what = "it took too long" if server.status is None else f"it ended with status {server.status}"
    return Dead(f"it did not start: {what}", log)


def _database(path: Path, postgres_bin: str | None, stack: ExitStack) -> str:
    """A PostgreSQL of the same settings as DevNest's own, without a table in it; its URL."""
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
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _input_ended(wait_s: float) -> bool:
    """Nothing but its end comes after the first line."""
    return bool(select.select([sys.stdin], [], [], wait_s)[0])


def _tell(word: Word) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(msgspec.json.encode(word) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
