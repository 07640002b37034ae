"""The data directory and its lock."""

import fcntl
import os
import pwd
from pathlib import Path

from devnest.exhaustion import is_transient
from devnest.store.errors import DataDirectoryError, DataDirectoryInUse

__all__ = ["DataDirectory", "default_data_dir"]

COMMAND = "command"  # second line of the lock file if a command holds it, which will soon end


def default_data_dir() -> Path:
    """Return the default data directory: `/var/lib/devnest` for root, else in the XDG data home.

    Raises:
        DataDirectoryError: The user has no home directory and has to name a data directory.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/devnest")
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (base if base.is_absolute() else _home() / ".local" / "share") / "devnest"


def _home() -> Path:
    """Return the home directory from HOME or else from the system's list of users."""
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
    """The data directory of one DevNest, locked from `open` to `close`.

    The kernel holds the lock (flock), so it ends with a killed process. The permissions of an
    existing directory are never changed.

    Args:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock_fd = -1

    def open(self, *, to_serve: bool = False) -> None:
        """Create the directory if it is missing, and lock it.

        Args:
            to_serve: True for `devnest serve`, False for a command that will soon end.

        Raises:
            DataDirectoryInUse: Another process has locked it.
            DataDirectoryError: It cannot be created or locked.
        """
        # Root's PostgreSQL runs as another user, which has to pass through this directory. The
        # files in it have modes of their own.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.path.mkdir(mode=mode)
            except FileExistsError:
                pass
            else:
                self.path.chmod(mode)  # the umask may have removed bits from mkdir's mode
            self._lock_fd = os.open(
                self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, *what = os.pread(self._lock_fd, 40, 0).decode("ascii", "replace").split() or [
                "unknown"
            ]
            self.close()
            raise DataDirectoryInUse(self.path, pid, transient=what == [COMMAND]) from None
        try:
            os.ftruncate(self._lock_fd, 0)
            os.pwrite(self._lock_fd, f"{os.getpid()}\n{'' if to_serve else COMMAND}\n".encode(), 0)
        except OSError as error:
            self.close()
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> DataDirectoryError:
        return DataDirectoryError(
            self.path, error.strerror or str(error), transient=is_transient(error)
        )

    def close(self) -> None:
        """Release the lock."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
