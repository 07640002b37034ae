"""The log of the embedded PostgreSQL: readable by its owner only, and bounded in size.

PostgreSQL appends to the file itself, so it needs no reader and can write even while it crashes or
after DevNest was killed. `PostgresLog.bound` copies a long file to `….old` and empties it, which
does not disturb an appending process. Lines written between the copy and the truncation, within
microseconds, are lost.

Statements and error details are not logged, because they may contain values that clients sent.
"""

import contextlib
import os
from pathlib import Path

__all__ = ["LOG_SETTINGS", "PostgresLog"]

MAX_LOG_BYTES = 4 * 1024 * 1024  # months of checkpoints, or about 40,000 errors
LOG_SETTINGS = {
    # PostgreSQL's own log collector has no limit for a file's size.
    "logging_collector": "off",
    "log_destination": "stderr",
    # DETAIL, CONTEXT and the statement of an error may contain addresses, names or texts.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    # A long recovery logs its progress; `startup` watches these lines.
    "log_startup_progress_interval": "10s",
}


class PostgresLog:
    """The log file, and a descriptor that stays valid when the file is renamed or removed.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._start_bytes = 0

    def open(self) -> int:
        """Open the file for a new start of PostgreSQL.

        Returns:
            A descriptor for PostgreSQL's standard error.

        Raises:
            OSError: The file cannot be opened.
        """
        self.close()
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        os.fchmod(self._fd, 0o600)  # an existing file may have another mode
        self.bound()
        self._start_bytes = os.fstat(self._fd).st_size
        return self._fd

    def bound(self) -> None:
        """Empty the file if it is longer than `MAX_LOG_BYTES`, and keep its end in `….old`.

        Raises:
            OSError: The file cannot be truncated. A full disk for the copy is no error.
        """
        if self._fd < 0 or (size_bytes := os.fstat(self._fd).st_size) <= MAX_LOG_BYTES:
            return
        with contextlib.suppress(OSError):
            self._copy(self.path.with_name(f"{self.path.name}.old"), size_bytes)
        os.ftruncate(self._fd, 0)
        self._start_bytes = 0

    def size_bytes(self) -> int:
        """Return the size of the file."""
        return os.fstat(self._fd).st_size

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines that were written since PostgreSQL was started."""
        written = os.pread(self._fd, MAX_LOG_BYTES, self._start_bytes)
        return written.decode(errors="replace").strip().splitlines()[-count:]

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _copy(self, target: Path, size_bytes: int) -> None:
        """Copy the last `MAX_LOG_BYTES` of the file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(target, flags, 0o600), "wb") as old:
            os.fchmod(old.fileno(), 0o600)
            old.write(os.pread(self._fd, MAX_LOG_BYTES, size_bytes - MAX_LOG_BYTES))
