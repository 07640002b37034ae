"""The data directory: who may use it, and the files DevNest keeps in it."""

import fcntl
import os
import pwd
from pathlib import Path

from devnest.store.errors import DataDirectoryError, DataDirectoryInUse, is_transient

__all__ = ["DataDirectory", "default_data_dir"]

COMMAND = "command"  # the second line of the lock, where who has it will soon end


def default_data_dir() -> Path:
    """Where DevNest keeps its data unless told: `/var/lib/devnest` as root, else the XDG data directory.

    Raises `DataDirectoryError` for a user without a home directory, who has to name one.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/devnest")
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (base if base.is_absolute() else _home() / ".local" / "share") / "devnest"


def _home() -> Path:
    """The user's home directory: that of HOME, else of the system's list of users."""
    given = Path(os.environ.get("HOME", ""))
    if given.is_absolute():
        return given
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        name = Path("~/.local/share/devnest")
        raise DataDirectoryError(
            name, "this user has no home directory; name another place by --data-dir"
        ) from None


class DataDirectory:
    """One DevNest's directory, held by a lock from `open` to `close`.

    The lock is the kernel's (flock), so a killed DevNest holds nothing. Directories that exist are taken as they
    are: their permissions are never changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock_fd = -1

    def open(self, *, to_serve: bool = False) -> None:
        """Make the directory where it is missing, and lock it: `to_serve`, or for a command, which soon ends.

        Raises `DataDirectoryInUse` where a live DevNest has it, `DataDirectoryError` where it cannot be used.
        """
        # Root's PostgreSQL runs as another user, who has to pass through; what is inside has modes of its own.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.path.mkdir(mode=mode)
            except FileExistsError:
                pass
            else:
                self.path.chmod(mode)  # mkdir's mode went through the umask
            self._lock_fd = os.open(
                self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise DataDirectoryError(
                self.path, error.strerror or str(error), transient=is_transient(error)
            ) from error
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, *what = os.pread(self._lock_fd, 40, 0).decode("ascii", "replace").split() or [
                "unknown"
            ]
            self.close()
            raise DataDirectoryInUse(self.path, pid, transient=what == [COMMAND]) from None
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, f"{os.getpid()}\n{'' if to_serve else COMMAND}\n".encode(), 0)

    def close(self) -> None:
        """Give the lock back."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
