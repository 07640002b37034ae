"""Starts the server of `Pool.shared` where none runs.

Every client that finds no server tries to take a lock. Who gets it starts the server and keeps the
lock until that server answers or has ended; the others go on trying to connect. The lock ends with
its process, so a client that dies while it starts a server stops nobody. Of two servers that start
all the same, the second finds the socket taken and ends.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from devnest.pool.errors import InvalidTask
from devnest.pool.runtime.interpreter import how_it_ended, import_path, interpreter
from devnest.pool.wire.peer import open_directory
from devnest.pool.wire.protocol import VERSION

__all__ = ["LINGER_S", "Launcher", "default_path", "socket_directory"]

LINGER_S = 10.0  # a server without clients waits this long for the next one
# What the server and its workers write to standard error is kept in a file of at most this size.
MAX_LOG_BYTES = 1024 * 1024
# Delay before a server is started again. It starts at the minimum, and doubles while servers end
# before they answer.
MIN_DELAY_S, MAX_DELAY_S = 0.1, 5.0
MAX_REASON_CHARS = 300  # of the server's last line in an error message
# Errors of the socket's directory that waiting does not mend.
_LASTING = frozenset(
    (
        errno.EACCES,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    )
)

_PROGRAM = """\
from devnest.pool.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


class _Detached(subprocess.Popen[bytes]):
    """A server that outlives this process; its status is collected if it ends earlier."""

    def __del__(self) -> None:
        # `Popen` would warn that the process is running still.
        self.poll()


_started: list[_Detached] = []  # the servers that this process has started and that may still run


def _collect() -> None:
    """Let no server that has ended stay a zombie."""
    _started[:] = [server for server in _started if server.poll() is None]


def socket_directory() -> Path:
    """Return the directory of the sockets of this user's shared pools, which may not exist."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime) / "devnest-pool"
    return Path(tempfile.gettempdir()) / f"devnest-pool-{os.geteuid()}"


def default_path() -> Path:
    """Return the socket of the processes that can import what this one can.

    A server imports the functions of its clients. So its name depends on the version of the
    protocol, the Python environment and the import path, in any order. The directory of Python's
    own programs does not count: it is in the path of scripts such as `gunicorn` alone.
    """
    programs = str(Path(sys.executable).parent)
    entries = sorted(entry for entry in set(import_path()) if entry != programs)
    what = "\0".join((str(VERSION), sys.version, sys.prefix, *entries))
    name = hashlib.sha256(os.fsencode(what)).hexdigest()[:12]
    return socket_directory() / f"{name}.sock"


class Launcher:
    """Starts a server at a path, at most one at a time.

    Args:
        path: The path of its socket.
        workers: Its number of workers; `None` for the CPUs that it may use.
        nice: The number by which the nice value of its workers is raised.

    Attributes:
        reason: Why the last server did not answer, as a phrase, or an empty string.
        is_hopeless: Whether the next attempt would fail as well, as the socket's directory is not
            usable.

    Raises:
        InvalidTask: `workers` or `nice` is out of its range.
    """

    def __init__(self, path: Path, *, workers: int | None, nice: int) -> None:
        if workers is not None and not (type(workers) is int and workers > 0):
            raise InvalidTask(f"workers must be a whole number from 1, not {workers!r}")
        if not (type(nice) is int and 0 <= nice <= 19):
            raise InvalidTask(f"nice must be a whole number from 0 to 19, not {nice!r}")
        self._path = path
        self._log_path = path.with_suffix(".log")
        self._arguments = ["serve", f"--socket={path}", f"--linger={LINGER_S}", f"--nice={nice}"]
        self._arguments.append(f"--max-log={MAX_LOG_BYTES}")
        if workers is not None:
            self._arguments.append(f"--workers={workers}")
        self._process: _Detached | None = None
        self._lock_fd: int | None = None
        self._delay_s = 0.0
        self._next_at = 0.0
        self.reason = ""
        self.is_hopeless = False

    def launch(self) -> None:
        """Start a server unless this or another process is starting one, or it is too early.

        Nothing is raised: `reason` says what went wrong, and the next call tries again.
        """
        if self._process is not None:
            status = self._process.poll()
            if status is None:
                return
            self._ended(status)
        if time.monotonic() < self._next_at:
            return
        try:
            if self._take_lock():
                self._start()
        except OSError as error:
            self.reason = f"the server cannot be started: {error}"
            self.is_hopeless = error.errno in _LASTING
            self._postpone()
        else:
            self.is_hopeless = False

    def connected(self) -> None:
        """Let others start the next server, as this one answers."""
        self._unlock()
        self._delay_s = self._next_at = 0.0
        self.reason = ""

    def close(self) -> None:
        """Release the lock; a server that is starting goes on, for its next client."""
        self._unlock()
        _collect()

    def _take_lock(self) -> bool:
        os.close(open_directory(self._path.parent))  # checked before the lock leaves a file in it
        fd = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                return False
            raise
        self._lock_fd = fd
        return True

    def _start(self) -> None:
        log = self._open_log()
        try:
            self._process = _Detached(
                interpreter(_PROGRAM, self._arguments, import_path()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL if log is None else log,
                start_new_session=True,  # Ctrl-C and the end of this process do not reach it
            )
        finally:
            if log is not None:
                os.close(log)
        _collect()
        _started.append(self._process)

    def _open_log(self) -> int | None:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW
        try:
            return os.open(self._log_path, flags, 0o600)
        except OSError:  # a server without a log is better than none
            return None

    def _ended(self, status: int) -> None:
        """Note how the server ended, which was started here and has never answered here."""
        self._process = None
        _collect()
        if self._lock_fd is None:  # it answered, and ended later
            return
        lines = []
        with contextlib.suppress(OSError):
            lines = self._log_path.read_text(errors="replace").strip().splitlines()
        last = f": {lines[-1][:MAX_REASON_CHARS]}" if lines else ""
        self.reason = f"the server that was started ended {how_it_ended(status)}{last}"
        self._postpone()
        self._unlock()

    def _postpone(self) -> None:
        self._delay_s = min(MAX_DELAY_S, 2 * self._delay_s or MIN_DELAY_S)
        self._next_at = time.monotonic() + self._delay_s

    def _unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None
