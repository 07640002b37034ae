"""The embedded PostgreSQL: created, started, watched and stopped inside a data directory.

It listens on a Unix socket only, in a 0700 directory (`socket_directory`). Two locks tell which
processes are alive:

- `lock` belongs to the DevNest process (`data_directory`).
- `postgres.lock` is opened by DevNest and inherited by the postmaster and all its backends. The
  kernel releases it when the last of them has ended.

If `postgres.lock` can be taken, any `postmaster.pid` is stale: left by `kill -9` or a power cut,
even if another program has its process id now. If it cannot be taken, a PostgreSQL of an earlier
DevNest is still running.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from devnest.exhaustion import is_transient
from devnest.store.connection_url import embedded_url
from devnest.store.errors import DataDirectoryError, PostgresFailed, VersionMismatch
from devnest.store.postgres.binaries import (
    PostgresBinaries,
    find_binaries,
    postgres_identity,
    private_environment,
)
from devnest.store.postgres.data_directory import DataDirectory
from devnest.store.postgres.log import LOG_SETTINGS, PostgresLog
from devnest.store.postgres.socket_directory import clear_socket_directories, make_socket_directory
from devnest.store.postgres.startup import MAX_STANDSTILL_S, Startup

__all__ = ["EmbeddedPostgres", "running_url"]

STOP_TIMEOUT_S = 10.0  # for each of SIGINT, SIGQUIT and SIGKILL
ORPHAN_TIMEOUT_S = 30.0  # for a PostgreSQL of an earlier DevNest to shut down
# Backends whose postmaster has ended are killed if they have not noticed by then.
BACKEND_EXIT_TIMEOUT_S = 2.0
POLL_S = 0.005
PR_SET_PDEATHSIG = 1
# Linux only. It is looked up here, because little is safe between fork and exec.
_PRCTL: Any = getattr(ctypes.CDLL(None), "prctl", None)
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    **LOG_SETTINGS,
}


class EmbeddedPostgres:
    """A PostgreSQL in an open `DataDirectory`. It can be started and stopped repeatedly.

    Args:
        data_dir: The open data directory.
        postgres_bin: The directory of PostgreSQL's programs; by default they are searched.

    Raises:
        PostgresNotFound: No usable programs were found.
        DataDirectoryError: The user that runs PostgreSQL cannot enter the data directory.
    """

    def __init__(self, data_dir: DataDirectory, postgres_bin: Path | None = None) -> None:
        self._home = data_dir.path.resolve()
        self._data = self._home / "postgres"
        self._log = PostgresLog(self._home / "postgres.log")
        self._identity = postgres_identity()
        self._binaries: PostgresBinaries = find_binaries(postgres_bin, self._identity, self._home)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_dir: Path | None = None
        self._startup: Startup | None = None
        self._orphan_since: float | None = None
        self._signalled_pid: int | None = None  # the orphaned postmaster that got SIGINT

    @property
    def url(self) -> str:
        """The URL of the database, usable by whoever may enter the socket's directory."""
        assert self._socket_dir is not None, "not started"
        return embedded_url(str(self._socket_dir))

    @property
    def log_path(self) -> Path:
        """The file to which PostgreSQL writes its log."""
        return self._log.path

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster, or None if it is not running."""
        return (
            self._process.pid
            if self._process is not None and self._process.poll() is None
            else None
        )

    @property
    def exit_status(self) -> int | None:
        """The exit status of the postmaster, negative for a signal; None while it runs."""
        return self._process.poll() if self._process is not None else None

    def start(self) -> None:
        """Start PostgreSQL and wait until it accepts connections.

        Raises:
            PostgresFailed: It did not start; it is stopped again.
            DataDirectoryError: The data directory cannot be used.
        """
        self.launch()
        try:
            while not self.is_ready():
                time.sleep(POLL_S)
        except PostgresFailed:
            self.stop()
            raise

    def launch(self) -> None:
        """Launch PostgreSQL, after waiting for one of an earlier DevNest to end.

        Raises:
            PostgresFailed: The earlier one does not end, or initdb failed.
            DataDirectoryError: The data directory cannot be used.
        """
        while not self.try_launch():
            time.sleep(POLL_S)

    def try_launch(self) -> bool:
        """Launch PostgreSQL, for the first time or after it died. Create the database if missing.

        The URL stays the same for all launches until `stop`. If this process is killed, PostgreSQL
        shuts down: on Linux immediately, elsewhere at the next start.

        Returns:
            False if a PostgreSQL of an earlier DevNest has not ended yet. It is being shut down, so
                try again soon.

        Raises:
            VersionMismatch: Another major version created the database.
            DataDirectoryError: The data directory cannot be used.
            PostgresFailed: The earlier PostgreSQL does not end, or initdb failed.
        """
        try:
            lock_fd = os.open(
                self._home / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600
            )
            try:
                if not self._is_free(lock_fd):
                    return False
                self._clear_stale()
                if not self._data.exists():
                    self._initdb()
                self._check_version()
                self._launch(lock_fd)
                return True
            finally:
                os.close(lock_fd)  # the postmaster has its own copy
        except OSError as error:
            reason = f"{error.filename or ''} {error.strerror}".strip()
            raise DataDirectoryError(self._home, reason, transient=is_transient(error)) from error

    def is_ready(self) -> bool:
        """Return whether a launched PostgreSQL accepts connections.

        Raises:
            PostgresFailed: It ended or is stuck; it will not become ready.
        """
        assert self._process is not None, "not launched"
        assert self._startup is not None
        code = self._process.poll()
        if code is None and not self._startup.is_stuck():
            # The postmaster writes its state into the eighth line of its pid file.
            lines = self._postmaster_pid_lines()
            return len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7] == "ready"
        self._end()  # the socket directory stays for the next launch
        what = (
            f"started and did nothing for {MAX_STANDSTILL_S:g} s"
            if code is None
            else f"ended with status {code}"
        )
        raise PostgresFailed(
            f"PostgreSQL {what}; the end of {self.log_path}: {' | '.join(self._log.last_lines(3))}"
        )

    def stop(self) -> None:
        """Shut PostgreSQL down: roll back running transactions, write a checkpoint, and end."""
        self._end()
        self._log.close()
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None

    def bound_log(self) -> None:
        """Bound the size of PostgreSQL's log. It has to be called from time to time.

        Raises:
            OSError: The log cannot be truncated.
        """
        self._log.bound()

    def _end(self) -> None:
        if self._process is not None:
            for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                if self._process.poll() is not None:
                    break
                self._process.send_signal(how)
                try:
                    self._process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    continue
            self._process = None

    def _is_free(self, lock_fd: int) -> bool:
        """Take `postgres.lock`, or make the processes that hold it end.

        A postmaster whose DevNest was killed gets SIGINT. The backends of a killed postmaster end
        by themselves, but one that is computing notices only when it has finished: after
        `BACKEND_EXIT_TIMEOUT_S` they are killed.
        """
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, now = self._orphan_pid(), time.monotonic()
            if self._orphan_since is None:
                self._orphan_since = now
            if pid and pid != self._signalled_pid:
                self._signalled_pid = pid
                _send(pid, signal.SIGINT)
            waited_s = now - self._orphan_since
            if not pid and waited_s > BACKEND_EXIT_TIMEOUT_S:
                self._kill_leftover_backends(lock_fd)
            if waited_s > ORPHAN_TIMEOUT_S:
                self._orphan_since = None
                raise PostgresFailed(
                    f"a PostgreSQL left behind in {self._home} does not end"
                ) from None
            return False
        self._orphan_since = None
        return True

    def _orphan_pid(self) -> int | None:
        """Return the live postmaster of `postmaster.pid`, if the system confirms what it is."""
        lines = self._postmaster_pid_lines()
        pid = int(lines[0]) if lines else None
        # The working directory of a postmaster is its data directory.
        if pid and Path("/proc/self/cwd").exists():
            try:
                return pid if self._works_here(Path(f"/proc/{pid}")) else None
            except OSError:
                return None
        return pid

    def _kill_leftover_backends(self, lock_fd: int) -> None:
        """Kill the processes that hold the lock and work in the data directory (on Linux only).

        The lock distinguishes PostgreSQL's processes from a shell in the same directory.
        """
        lock = os.fstat(lock_fd)
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it belongs to another user, or has ended
                is_another = int(process.name) != os.getpid() and self._works_here(process)
                if is_another and any(
                    os.path.samestat(fd.stat(), lock) for fd in (process / "fd").iterdir()
                ):
                    _send(int(process.name), signal.SIGKILL)

    def _works_here(self, process: Path) -> bool:
        return (process / "cwd").readlink() == self._data.resolve()

    def _clear_stale(self) -> None:
        """Remove the socket directories and the `postmaster.pid` of killed processes."""
        clear_socket_directories(self._home, self._socket_dir)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _postmaster_pid_lines(self) -> list[str]:
        try:
            lines = (self._data / "postmaster.pid").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [line.strip() for line in lines] if lines and lines[0].strip().isdigit() else []

    def _initdb(self) -> None:
        """Create the database beside its final place and move it there, all or nothing."""
        self._identity.check_name()
        unfinished = self._home / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._identity.give(unfinished)
        # The same collation on every machine, which no upgrade of the C library can change.
        if self._binaries.major >= 17:
            locales = [["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]]
        else:  # searches need letters beyond ASCII, but not every system has such a locale
            locales = [["--locale=C", "--lc-ctype=C.UTF-8"], ["--locale=C"]]
        for options in locales:
            answer = self._identity.run(
                self._binaries.initdb, "-D", unfinished, "--username=devnest", "--auth=trust",
                "--encoding=UTF8", "--data-checksums", *options,
            )  # fmt: skip
            if answer.returncode == 0:
                break
        else:
            raise PostgresFailed(
                f"initdb failed: {(answer.stderr or answer.stdout).strip()[-500:]}"
            )
        unfinished.rename(self._data)

    def _check_version(self) -> None:
        try:
            made_by = (self._data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise DataDirectoryError(
                self._home, "its folder postgres is not a PostgreSQL database"
            ) from None
        if made_by != str(self._binaries.major):
            raise VersionMismatch(self._home, made_by, str(self._binaries.major))

    def _launch(self, lock_fd: int) -> None:
        if self._socket_dir is None:
            self._socket_dir = make_socket_directory(self._home, self._identity)
        elif not self._socket_dir.exists():  # a cleaner removed it; the servers know its name
            self._socket_dir.mkdir(mode=0o700)
            self._identity.give(self._socket_dir)
        for left in self._socket_dir.iterdir():
            left.unlink()
        settings = {**SETTINGS, "unix_socket_directories": str(self._socket_dir)}
        log = self._log.open()
        options = [f"--{name}={value}" for name, value in settings.items()]
        self._process = subprocess.Popen(
            [self._binaries.postgres, "-D", self._data, *options],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock_fd],
            start_new_session=True,  # Ctrl-C reaches DevNest only, which stops PostgreSQL last
            env=private_environment(),
            user=self._identity.uid,
            group=self._identity.gid,
            extra_groups=None if self._identity.uid is None else [],
            # Safe: this process has one thread.
            preexec_fn=_shut_down_with_parent if _PRCTL else None,
        )
        self._startup = Startup(self._process.pid, self._log)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _shut_down_with_parent() -> None:
    """Let the kernel send SIGINT when the parent dies. This runs between fork and exec."""
    _PRCTL(PR_SET_PDEATHSIG, signal.SIGINT)


def running_url(data_dir: DataDirectory) -> str:
    """Return the URL of the PostgreSQL that a DevNest runs in a data directory.

    Only the directory's owner and root may read it.

    Raises:
        PostgresFailed: No PostgreSQL is running there, or it is not ready.
    """
    try:
        lines = (data_dir.path / "postgres" / "postmaster.pid").read_text().splitlines()
    except OSError as error:
        raise PostgresFailed(f"no PostgreSQL runs in {data_dir.path}: {error.strerror}") from error
    if len(lines) < 8 or lines[7].strip() != "ready":
        raise PostgresFailed(f"the PostgreSQL in {data_dir.path} is not ready")
    return embedded_url(lines[4].strip())
