"""The log of DevNest's own PostgreSQL: for its owner's eyes, without what clients sent, and bounded while it grows.

PostgreSQL appends to the file itself: what it says in a crash, or when DevNest was killed, is there, and it waits for
nobody who would have to read. `bound` copies a long file to its predecessor's place and empties it, which whoever
appends does not notice. Lines that are written in that moment, some microseconds, are lost.
"""

import contextlib
import os
from pathlib import Path

__all__ = ["LOG_SETTINGS", "PostgresLog"]

MAX_LOG_BYTES = 4 * 1024 * 1024  # months of checkpoints, or 40,000 errors
LOG_SETTINGS = {
    # PostgreSQL's own collector has no bound on a file's size.
    "logging_collector": "off",
    "log_destination": "stderr",
    # What is in DETAIL, CONTEXT and the statement of an error may be an address, a name or a text of somebody.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    # A line now and then in a long recovery, by which it is known to move (devnest.store.postgres.startup).
    "log_startup_progress_interval": "10s",
}


class PostgresLog:
    """The file, and the descriptor through which a running PostgreSQL is followed, whatever happens to the name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._start_bytes = 0

    def open(self) -> int:
        """Open it for a start of PostgreSQL, whose standard error is the descriptor returned; raises OSError."""
        self.close()
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        os.fchmod(self._fd, 0o600)  # it was 0644 once
        self.bound()
        self._start_bytes = os.fstat(self._fd).st_size
        return self._fd

    def bound(self) -> None:
        """Begin it anew where it is too long; what was in it replaces `….old`, as far as there is room on the disk."""
        if self._fd < 0 or (size_bytes := os.fstat(self._fd).st_size) <= MAX_LOG_BYTES:
            return
        with contextlib.suppress(OSError):
            self._copy(self.path.with_name(f"{self.path.name}.old"), size_bytes)
        os.ftruncate(self._fd, 0)
        self._start_bytes = 0

    def size_bytes(self) -> int:
        """How long it is."""
        return os.fstat(self._fd).st_size

    def last_lines(self, count: int) -> list[str]:
        """The last lines since PostgreSQL was started."""
        written = os.pread(self._fd, MAX_LOG_BYTES, self._start_bytes)
        return written.decode(errors="replace").strip().splitlines()[-count:]

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _copy(self, target: Path, size_bytes: int) -> None:
        """Its last `MAX_LOG_BYTES`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(target, flags, 0o600), "wb") as old:
            os.fchmod(old.fileno(), 0o600)
            old.write(os.pread(self._fd, MAX_LOG_BYTES, size_bytes - MAX_LOG_BYTES))
