"""Watches the start of PostgreSQL, and waits for it as long as it makes progress.

After a crash PostgreSQL replays its write-ahead log since the last checkpoint. That can take an
hour, and a PostgreSQL that is killed meanwhile has to begin again. So there is no limit for the
whole start, only for the time without progress: PostgreSQL logs a line every ten seconds while it
recovers, and its processes use CPU time.
"""

import time
from contextlib import suppress
from pathlib import Path

import structlog

from devnest.store.postgres.log import PostgresLog

__all__ = ["MAX_STANDSTILL_S", "Startup"]

# A start without progress for so long has failed. The checkpoint at the end of a recovery logs
# nothing and may only wait for the disk, so this is long.
MAX_STANDSTILL_S = 300.0
CHECK_INTERVAL_S = 1.0
REPORT_INTERVAL_S = 10.0
log = structlog.get_logger("devnest.store")


class Startup:
    """The start of one postmaster.

    Args:
        pid: The process id of the postmaster.
        postgres_log: The log that it writes.
    """

    def __init__(self, pid: int, postgres_log: PostgresLog) -> None:
        self._pid = pid
        self._log = postgres_log
        self._began_at = self._moved_at = self._looked_at = self._reported_at = time.monotonic()
        self._seen: tuple[int, int] | None = None

    def is_stuck(self) -> bool:
        """Return whether nothing has moved for `MAX_STANDSTILL_S`.

        It may be called at any rate. Every ten seconds it logs that PostgreSQL is still starting,
        with the last line of its log.
        """
        now = time.monotonic()
        if now - self._looked_at >= CHECK_INTERVAL_S:
            self._looked_at = now
            if (seen := (self._log.size_bytes(), _cpu_ticks(self._pid))) != self._seen:
                self._seen, self._moved_at = seen, now
        if now - self._reported_at >= REPORT_INTERVAL_S:
            self._reported_at = now
            last = " ".join(self._log.last_lines(1))
            log.warning(
                "postgresql still starts", waited_s=round(now - self._began_at), last_line=last
            )
        return now - self._moved_at > MAX_STANDSTILL_S


def _cpu_ticks(pid: int) -> int:
    """Return the CPU time of a process and its children, or 0 where the system does not tell."""
    family = [str(pid)]
    with suppress(OSError):
        family += Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ticks = 0
    for member in family:
        with suppress(OSError, ValueError, IndexError):
            # Fields 14 and 15. The second field, a name in parentheses, may contain spaces.
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks
